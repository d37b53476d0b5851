"""The lies that a shop's own answers could tell: each is refused at start, with the line that is right."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from cxguard.core.answer import PAID, SPECS, AnswerSpec, MoneyTold, Situation
from cxguard.core.honesty import RETRY_AFTER_SECONDS_MAX, allowed_statuses, check_honesty, check_words, with_overrides
from cxguard.errors import ConfigurationError

S = Situation
LIES: list[tuple[Situation, dict[str, Any], str]] = [
    (S.UNKNOWN, {"status": 402}, "has status 402: a client would say that the bank declined"),
    (S.UNKNOWN, {"status": 200}, "has status 200: a client would take it for paid"),
    (S.UNKNOWN, {"status": 503}, "has status 503: a client would say that it failed"),
    (S.UNKNOWN, {"status": 299}, "has status 299: a client would take it for paid"),
    (S.UNKNOWN, {"status": 300}, "has status 300: where a browser is sent"),
    (S.UNKNOWN, {"status": 303}, "has status 303: where a browser is sent"),
    (S.UNKNOWN, {"status": 400}, "has status 400: a client would say that it failed"),
    (S.UNKNOWN, {"money": MoneyTold.NOT_CHARGED}, 'claims money="not_charged", and all that is known is "unknown"'),
    (S.UNKNOWN, {"money": MoneyTold.CHARGED}, 'claims money="charged"'),
    (S.UNKNOWN, {"money": None}, "claims money=what the record says"),
    (S.UNKNOWN, {"safe_to_retry": True}, "claims safe_to_retry=True, where paying anew could charge twice"),
    (S.UNKNOWN, {"message": "declined"}, "borrows the words of declined"),
    (S.UNKNOWN, {"problem": "declined"}, "borrows the problem type declined"),
    (S.PAID_UNFINISHED, {"status": 500}, "a client would say that it failed"),
    (S.PAID_UNFINISHED, {"safe_to_retry": True}, "claims safe_to_retry=True"),
    (S.PAID_UNFINISHED, {"order_saved": False}, "claims order_saved=False"),
    (S.KEPT, {"status": 200}, "would take it for paid"),
    (S.KEPT, {"safe_to_retry": True}, "claims safe_to_retry=True"),
    (S.DECLINED, {"status": 200}, "would take it for paid"),
    (S.NOT_KEPT, {"status": 402}, "has status 402"),
    (S.NOT_KEPT, {"status": 202}, "would take it for paid"),
    (S.NOT_KEPT, {"order_saved": True}, "claims order_saved=True"),
    (S.NOT_KEPT, {"message": "declined"}, "borrows the words of declined"),
    (S.HELD, {"money": MoneyTold.NOT_CHARGED}, "all that is known is what the record says"),
    (S.IN_FLIGHT, {"status": 500}, "a client would say that it failed"),
    (S.CANCELLED, {"status": 402}, "has status 402"),
    (S.STORE_AWAY, {"money": MoneyTold.NOT_CHARGED}, 'all that is known is "unknown"'),
    (S.NOT_KEPT, {"retry_after_seconds": 0}, "has retry_after_seconds=0"),
    (S.NOT_KEPT, {"retry_after_seconds": RETRY_AFTER_SECONDS_MAX + 1}, "not between 1 and 86400"),
]


TRIED = {100, 199, *range(200, 209), 226, 299, *range(300, 309), 399, *range(400, 430), 451, 499, *range(500, 512), 599, 600}


def test_the_table_as_shipped_is_honest() -> None:
    """Our own rows pass their own check."""
    check_honesty(SPECS)


@pytest.mark.parametrize(("situation", "lie", "said"), LIES)
def test_a_lie_is_refused_with_the_corrected_line(situation: Situation, lie: dict[str, Any], said: str) -> None:
    """A row that could tell a lie stops the program, and the error has the row as it should be."""
    with pytest.raises(ConfigurationError) as refused:
        with_overrides({situation: replace(SPECS[situation], **lie)})
    text = str(refused.value)
    assert text.startswith(f"the answer to {situation.value} has status {lie['status']}: " if "status" in lie else "the answer to ")
    assert said in text
    own = SPECS[situation]
    assert f"Guard(..., answers={{Situation.{situation.name}: AnswerSpec(status={own.status}, " in text


def test_the_corrected_line_can_be_run() -> None:
    """Pasting the corrected line mends the program, and keeps what was right in the shop's own row."""
    wrong = AnswerSpec(402, MoneyTold.NOT_CHARGED, True, True, "our_words", "unknown", 5)
    with pytest.raises(ConfigurationError) as refused:
        with_overrides({S.UNKNOWN: wrong})
    line = str(refused.value).splitlines()[-1].strip()
    given = eval(line.replace("Guard(...,", "dict("), {"Situation": Situation, "AnswerSpec": AnswerSpec, "MoneyTold": MoneyTold})
    specs = with_overrides(given["answers"])
    assert specs[S.UNKNOWN] == replace(SPECS[S.UNKNOWN], message="our_words", retry_after_seconds=5)


@pytest.mark.parametrize("situation", Situation)
def test_the_corrected_line_of_each_row_is_the_row(situation: Situation) -> None:
    """To the letter, and with nothing in it that goes without saying."""
    with pytest.raises(ConfigurationError) as refused:
        with_overrides({situation: replace(SPECS[situation], status=303)})
    line = str(refused.value).splitlines()[-1].strip()
    given = eval(line.replace("Guard(...,", "dict("), {"Situation": Situation, "AnswerSpec": AnswerSpec, "MoneyTold": MoneyTold})
    assert given["answers"] == {situation: SPECS[situation]}
    assert "retry_after_seconds=None" not in line


def test_all_that_is_wrong_is_named_at_once() -> None:
    """One run of the program is enough to see every lie of a row."""
    with pytest.raises(ConfigurationError, match=r"402.*; and it claims money.*; and it claims safe_to_retry"):
        with_overrides({S.UNKNOWN: replace(SPECS[S.UNKNOWN], status=402, money=MoneyTold.NOT_CHARGED, safe_to_retry=True)})


def test_a_missing_row_is_refused() -> None:
    """A table without an answer to some situation cannot be used."""
    with pytest.raises(ConfigurationError, match="there is no answer to held: add"):
        check_honesty({situation: spec for situation, spec in SPECS.items() if situation is not S.HELD})


@pytest.mark.parametrize("situation", Situation)
def test_no_status_can_be_taken_for_the_opposite(situation: Situation) -> None:
    """402 is for a decline alone, 2xx for what is no failure, and what is paid is never an error."""
    allowed = allowed_statuses(situation)
    assert SPECS[situation].status in allowed
    assert (402 in allowed) == (situation is S.DECLINED)
    assert not any(300 <= status < 400 for status in allowed)
    if situation in PAID:
        assert max(allowed) < 300
    if SPECS[situation].status >= 400 and situation is not S.IN_FLIGHT:
        assert min(allowed) >= 400


@pytest.mark.parametrize(
    ("situation", "statuses"),
    [
        (S.PLACED, {200, 201, 202}),
        (S.PAID_UNFINISHED, {200, 201, 202}),
        (S.DECLINED, {400, 402, 409, 422}),
        (S.CANCELLED, {200, 409, 410}),
        (S.UNKNOWN, {202, 409}),
        (S.IN_FLIGHT, {202, 409}),
        (S.BASKET_BEING_PAID, {409}),
    ],
)
def test_which_statuses_a_shop_may_choose(situation: Situation, statuses: set[int]) -> None:
    """What shops before have answered with is among them, so it stays there."""
    assert allowed_statuses(situation) == statuses


def test_every_error_but_a_decline_says_that_nothing_is_kept() -> None:
    """From the first of the client's to the last of the server's."""
    assert allowed_statuses(S.NOT_KEPT) == set(range(400, 600)) - {402}


@pytest.mark.parametrize("seconds", [None, 1, RETRY_AFTER_SECONDS_MAX])
def test_a_client_may_be_told_to_come_back_within_a_day(seconds: int | None) -> None:
    """Not at once, and not later."""
    wanted = replace(SPECS[S.NOT_KEPT], retry_after_seconds=seconds)
    assert with_overrides({S.NOT_KEPT: wanted})[S.NOT_KEPT] == wanted


@pytest.mark.parametrize("situation", Situation)
def test_every_status_outside_the_list_is_refused(situation: Situation) -> None:
    """For each situation, of those that are used and those at each edge, exactly the allowed ones pass."""
    passed = set()
    for status in TRIED:
        with contextlib.suppress(ConfigurationError):
            with_overrides({situation: replace(SPECS[situation], status=status)})
            passed.add(status)
    assert passed == allowed_statuses(situation) & TRIED


def test_a_shop_may_choose_among_honest_statuses() -> None:
    """A shop whose front end wants 409 for unknown gets it."""
    assert with_overrides({S.UNKNOWN: replace(SPECS[S.UNKNOWN], status=409)})[S.UNKNOWN].status == 409


WORDS: list[tuple[Situation, str, MoneyTold | None, str, str]] = [
    (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "Your card was declined.", "only the shopper's bank declines"),
    (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "No payment has been taken.", "it is not known that nothing was charged"),
    (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "Payment failed.", "it is not known that nothing was charged"),
    (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "Try a different payment method.", "paying again could charge twice"),
    (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "Thank you for your payment.", "it is not known that the shopper has paid"),
    (S.NOT_KEPT, "en", MoneyTold.NOT_CHARGED, "Your bank did not approve it.", "only the shopper's bank declines"),
    (S.KEPT, "en", MoneyTold.NOT_CHARGED, "You have paid.", "it is not known that the shopper has paid"),
    (S.KEPT, "en", MoneyTold.NOT_CHARGED, "Please try again later.", "paying again could charge twice"),
    (S.PAID_UNFINISHED, "en", MoneyTold.CHARGED, "You have not been charged.", "it is not known that nothing was charged"),
    (S.HELD, "en", None, "You have not been charged.", "it is not known that nothing was charged"),
    (S.UNKNOWN, "de", MoneyTold.UNKNOWN, "Ihre Karte wurde abgelehnt.", "only the shopper's bank declines"),
    (S.UNKNOWN, "de", MoneyTold.UNKNOWN, "Ihr Konto wurde nicht belastet.", "it is not known that nothing was charged"),
    (S.UNKNOWN, "de", MoneyTold.UNKNOWN, "Bitte bezahlen Sie noch einmal.", "paying again could charge twice"),
    (S.KEPT, "de", MoneyTold.NOT_CHARGED, "Sie haben bezahlt.", "it is not known that the shopper has paid"),
    (S.UNKNOWN, "fr", MoneyTold.UNKNOWN, "Votre paiement a été refusé.", "only the shopper's bank declines"),
    (S.UNKNOWN, "fr", MoneyTold.UNKNOWN, "Votre compte n’a pas été débité.", "it is not known that nothing was charged"),
    (S.UNKNOWN, "fr", MoneyTold.UNKNOWN, "Vous pouvez réessayer.", "paying again could charge twice"),
    (S.KEPT, "fr", MoneyTold.NOT_CHARGED, "Vous avez payé.", "it is not known that the shopper has paid"),
]


@pytest.mark.parametrize(("situation", "language", "money", "text", "said"), WORDS)
def test_words_that_claim_too_much_are_refused(situation: Situation, language: str, money: MoneyTold | None, text: str, said: str) -> None:
    """A sentence that claims what is not known stops the program, and is quoted."""
    with pytest.raises(ConfigurationError) as refused:
        check_words(situation, f"All is well. {text}", language=language, money=money)
    assert f"{text!r}: {said}" in str(refused.value)


@pytest.mark.parametrize(
    ("situation", "language", "money", "text"),
    [
        (S.UNKNOWN, "en", MoneyTold.UNKNOWN, "We do not know whether you have been charged. Do not pay again."),
        (S.DECLINED, "en", MoneyTold.NOT_CHARGED, "Your bank declined. You have not been charged. Try another card."),
        (S.NOT_KEPT, "en", MoneyTold.NOT_CHARGED, "You have not been charged. Please try again."),
        (S.PAID_UNFINISHED, "en", MoneyTold.CHARGED, "You have paid. Please do not order again."),
        (S.UNKNOWN, "eo", MoneyTold.UNKNOWN, "Bonvolu pagi denove"),
    ],
)
def test_words_that_are_true_pass(situation: Situation, language: str, money: MoneyTold | None, text: str) -> None:
    """A sentence that asks, supposes or forbids claims nothing; a language that we do not speak is not judged."""
    check_words(situation, text, language=language, money=money)


@pytest.mark.parametrize(
    ("language", "text"), [("en", "We do not know."), ("de", "Wir wissen es nicht."), ("fr", "Nous ne savons pas."), ("en", "OK.")]
)
def test_unknown_must_say_not_to_pay_again(language: str, text: str) -> None:
    """A text for an unknown payment without the warning is refused, and the error brings the sentence to add."""
    with pytest.raises(ConfigurationError) as refused:
        check_words(S.UNKNOWN, text, language=language, money=MoneyTold.UNKNOWN)
    sentence = str(refused.value).split('"')[1]
    check_words(S.UNKNOWN, f"OK. {sentence}", language=language, money=MoneyTold.UNKNOWN)
