"""The lies that a shop's own answers and texts could tell, refused when the program starts.

Three things can be checked without a person: a status that a client takes for the opposite ("402" for a time-out), a
member that claims what is not known, and words that do so. The words are looked for sentence by sentence in the
languages of `_WORDS`; in others only the placeholders are checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cxguard.core.answer import PAID, SPECS, AnswerSpec, MoneyTold, Situation
from cxguard.errors import ConfigurationError

_S = Situation
RETRY_AFTER_SECONDS_MAX = 86_400  # a day: a client that waits longer has forgotten us
_OTHER_ERRORS = frozenset(range(400, 600)) - {402}


def allowed_statuses(situation: Situation) -> frozenset[int]:
    """The statuses that no client can take for something else than *situation*."""
    if situation in PAID:
        return frozenset({200, 201, 202})
    if situation is _S.DECLINED:
        return frozenset({400, 402, 409, 422})
    match SPECS[situation].status:
        case 200:
            return frozenset({200, 409, 410})
        case 202 | 409:
            return frozenset({202, 409}) if situation is not _S.BASKET_BEING_PAID else frozenset({409})
    return _OTHER_ERRORS


def with_overrides(answers: Mapping[Situation, AnswerSpec]) -> Mapping[Situation, AnswerSpec]:
    """The table with the shop's own rows.

    Raises:
        ConfigurationError: a row could tell a lie; the text has the corrected line.
    """
    specs = {**SPECS, **answers}
    check_honesty(specs)
    return specs


def check_honesty(specs: Mapping[Situation, AnswerSpec]) -> None:
    """Refuse a table with a row missing, or one that could tell a lie.

    Raises:
        ConfigurationError: with the corrected line of Python.
    """
    for situation in Situation:
        spec = specs.get(situation)
        if spec is None:
            raise ConfigurationError(f"there is no answer to {situation.value}: add\n    {_line(SPECS[situation], situation)}")
        problems, corrected = _lies(situation, spec)
        if problems:
            said = "; and it ".join(problems)
            raise ConfigurationError(f"the answer to {situation.value} {said}. Write\n    {_line(corrected, situation)}")


def _lies(situation: Situation, spec: AnswerSpec) -> tuple[list[str], AnswerSpec]:
    """What is wrong with a row, and the row put right."""
    own = SPECS[situation]
    after = spec.retry_after_seconds
    checks: tuple[tuple[bool, str, dict[str, Any]], ...] = (
        (spec.status not in allowed_statuses(situation), _about_status(spec.status), {"status": own.status}),
        (
            spec.money is not own.money,
            f"claims money={_word(spec.money)}, and all that is known is {_word(own.money)}",
            {"money": own.money},
        ),
        (
            spec.order_saved is not own.order_saved,
            f"claims order_saved={spec.order_saved}, which is not so",
            {"order_saved": own.order_saved},
        ),
        (
            spec.safe_to_retry and not own.safe_to_retry,
            "claims safe_to_retry=True, where paying anew could charge twice",
            {"safe_to_retry": False},
        ),
        (spec.message != own.message and spec.message in SPECS, f"borrows the words of {spec.message}", {"message": own.message}),
        (spec.problem != own.problem and spec.problem in _PROBLEMS, f"borrows the problem type {spec.problem}", {"problem": own.problem}),
        (
            after is not None and not 1 <= after <= RETRY_AFTER_SECONDS_MAX,
            f"has retry_after_seconds={after}, which is not between 1 and {RETRY_AFTER_SECONDS_MAX}",
            {"retry_after_seconds": own.retry_after_seconds},
        ),
    )
    corrected: dict[str, Any] = {}
    for wrong, _, right in checks:
        if wrong:
            corrected |= right
    return [problem for wrong, problem, _ in checks if wrong], replace(spec, **corrected)


_PROBLEMS = frozenset(spec.problem for spec in SPECS.values())


def _about_status(status: int) -> str:
    if status == 402:
        return "has status 402: a client would say that the bank declined, and it did not"
    if 200 <= status < 300:
        return f"has status {status}: a client would take it for paid"
    if 300 <= status < 400:
        return f"has status {status}: where a browser is sent is not the table's to say"
    return f"has status {status}: a client would say that it failed, and that is not known"


def _word(money: MoneyTold | None) -> str:
    return "what the record says" if money is None else f'"{money.value}"'


def _line(spec: AnswerSpec, situation: Situation) -> str:
    money = "None" if spec.money is None else f"MoneyTold.{spec.money.name}"
    after = "" if spec.retry_after_seconds is None else f", retry_after_seconds={spec.retry_after_seconds}"
    return (
        f"Guard(..., answers={{Situation.{situation.name}: AnswerSpec(status={spec.status}, money={money}, order_saved={spec.order_saved}, "
        f'safe_to_retry={spec.safe_to_retry}, message="{spec.message}", problem="{spec.problem}"{after})}})'
    )


# --- words ---


@dataclass(frozen=True, slots=True)
class _Words:
    """What gives a claim away in one language. `unsaid` marks a sentence that asks or supposes, and so claims nothing."""

    declined: re.Pattern[str]
    not_charged: re.Pattern[str]
    paid: re.Pattern[str]
    pay_again: re.Pattern[str]
    negated: re.Pattern[str]
    unsaid: re.Pattern[str]


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_WORDS: Mapping[str, _Words] = {
    "en": _Words(
        declined=_pattern(r"\bdeclin|\brejected\b|not approve|not authori[sz]e|insufficient funds|refused by"),
        not_charged=_pattern(
            r"\bnot (yet )?(been )?(charged|paid|debited)|\bno (payment|money|charge) (has|have|was|were) (been )?(taken|made)"
            r"|nothing (has been|was) (charged|taken)|payment (has )?failed|unsuccessful|(payment|did) not go through"
        ),
        paid=_pattern(
            r"\byou (have )?paid\b|payment (was|is|has been) (successful|received|complete)|(have|has) been charged|for your payment"
        ),
        pay_again=_pattern(r"try (it )?again|pay(ing)? again|order again|(another|different|other) (card|payment|means)"),
        negated=_pattern(r"\bnot\b|n't\b|n’t\b|\bnever\b|no need"),
        unsaid=_pattern(r"\bwhether\b|\bif\b|\bshould\b|\bunless\b"),
    ),
    "de": _Words(
        declined=_pattern(r"abgelehnt|ablehn|nicht genehmigt|nicht autorisiert|verweigert|nicht gedeckt"),
        not_charged=_pattern(
            r"nichts? (belastet|abgebucht|bezahlt)|nichts eingezogen|kein(e)? (zahlung|geld|betrag)|fehlgeschlagen|gescheitert"
        ),
        paid=_pattern(r"sie haben (bereits )?bezahlt|zahlung (war|ist) (erfolgreich|eingegangen)|wurden? belastet|für ihre zahlung"),
        pay_again=_pattern(
            r"(noch (ein)?mals?|erneut|wieder) (zu )?(bezahlen|zahlen|bestellen|versuchen)"
            r"|(bezahlen|zahlen|bestellen|versuchen) sie .*(noch (ein)?mal|erneut)|anderen? (karte|zahlungs)"
        ),
        negated=_pattern(r"\bnicht\b|\bkein"),
        unsaid=_pattern(r"\bob\b|\bfalls\b|\bwenn\b|\bsollte"),
    ),
    "fr": _Words(
        declined=_pattern(r"refus|rejet|pas (été )?(approuv|autoris)|provision"),
        not_charged=_pattern(
            r"(pas|rien) (encore )?(été )?(débité|payé|facturé)(?! deux fois)|rien (été )?prélevé"
            r"|aucun (paiement|montant|débit)|échoué|échec"
        ),
        paid=_pattern(r"vous avez (déjà )?payé|paiement (a été |est )(reçu|accepté|effectué)|a été débité|de votre paiement"),
        pay_again=_pattern(r"réessay|(payer|payez|commander|commandez) (à|de) nouveau|encore une fois|autre (carte|moyen)"),
        negated=_pattern(r"\bne\b|\bn['’]|\bpas\b"),
        unsaid=_pattern(r"\bsi\b|\bsinon\b|\bs['’]il"),
    ),
}

_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")


def check_words(situation: Situation, text: str, *, language: str, money: MoneyTold | None, warning: bool = True) -> None:
    """Refuse a text that says what is not known.

    Args:
        language: primary subtag, "en"; one that is not in the list is not checked.
        money: what is known when this text is used; None: it is used for any.
        warning: for an unknown payment the text must say not to pay again (a title need not).

    Raises:
        ConfigurationError: names the sentence and what is wrong with it.
    """
    words = _WORDS.get(language)
    if words is None:
        return
    for sentence in _SENTENCE.split(text):
        problem = _claim(words, sentence, situation=situation, money=money)
        if problem:
            said = f"the {language} text of {situation.value} says {sentence.strip()!r}"
            raise ConfigurationError(f"{said}: {problem}. Take the sentence out")
    if warning and situation is _S.UNKNOWN and not _warns(words, text):
        raise ConfigurationError(
            f"the {language} text of {situation.value} does not say that one must not pay again, and that is how people pay twice. "
            f'Add: "{_WARNING[language]}"'
        )


_WARNING = {
    "en": "Please do not pay again.",
    "de": "Bitte bezahlen Sie nicht noch einmal.",
    "fr": "Merci de ne pas payer à nouveau.",
}


def _claim(words: _Words, sentence: str, *, situation: Situation, money: MoneyTold | None) -> str:
    if words.unsaid.search(sentence):
        return ""
    if situation is not _S.DECLINED and words.declined.search(sentence):
        return "only the shopper's bank declines, and here it did not"
    if money is not MoneyTold.NOT_CHARGED and words.not_charged.search(sentence):
        return "it is not known that nothing was charged"
    if money is not MoneyTold.CHARGED and words.paid.search(sentence) and not words.negated.search(sentence):
        return "it is not known that the shopper has paid"
    if not SPECS[situation].safe_to_retry and words.pay_again.search(sentence) and not words.negated.search(sentence):
        return "paying again could charge twice"
    return ""


def _warns(words: _Words, text: str) -> bool:
    return any(words.pay_again.search(sentence) and words.negated.search(sentence) for sentence in _SENTENCE.split(text))
