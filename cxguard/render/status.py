"""What the status page of one order shows: a pure view of its record, in the catalogue's words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from markupsafe import Markup

from cxguard.core.answer import (
    CANCELLABLE,
    FINAL,
    SPECS,
    About,
    Answer,
    AnswerSpec,
    MoneyTold,
    Situation,
    answer_for,
)
from cxguard.core.asks import asked_words
from cxguard.core.money import Money, MoneyState
from cxguard.core.operation import Operation, State, money_of
from cxguard.core.situation import money_told_of, situation_of_operation
from cxguard.core.spooling import spooled_money, spooled_situation
from cxguard.render.figures import format_amount
from cxguard.render.fill import fill
from cxguard.render.words import Voice, Words, label_markup

WENT_WRONG = ("error", "slow", "unsure", "twice", "other")  # choices of the question "what went wrong for you?"
OWN_WORDS_CHARS_MAX = 500  # of the answer in the shopper's own words: a few sentences
_S = Situation


class Mark(StrEnum):
    """How far one step of an order is."""

    DONE = "done"
    NOW = "now"
    COMING = "coming"
    STOPPED = "stopped"


class Tone(StrEnum):
    """How a page looks: its colour and sign."""

    GOOD = "good"
    WAIT = "wait"
    CARE = "care"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Extras:
    """What the edge knows beside the record.

    Attributes:
        at_work: somebody holds a live lease on it.
        spooled: it is not in the store yet, so that nobody knows what an earlier submit did.
        doubted: the record may be an older copy of one that knew of a charge.
        next_update_at: until when the shopper hears from us.
        resume_url: where the shopper goes on: at the bank, or at the shop's own checkout.
        at_bank: it leads to the bank.
        order_url: the shop's own answer, for the owner.
        again: the shopper sent this order once more, and was led here.
        saying: show the question; the page does not reload itself then.
        said: the shopper has just answered it.
    """

    at_work: bool = False
    spooled: bool = False
    doubted: bool = False
    next_update_at: float | None = None
    resume_url: str | None = None
    at_bank: bool = True
    order_url: str | None = None
    again: bool = False
    saying: bool = False
    said: bool = False


@dataclass(frozen=True, slots=True)
class StatusView:
    """All that the page shows, ready to be put in place. `revision` changes when what is shown changes."""

    answer: Answer
    words: Words
    tone: Tone
    final: bool
    money_line: str
    steps: tuple[tuple[str, Mark], ...]
    next_update: Markup | None
    can_cancel: bool
    cancel_note: str
    extras: Extras
    revision: str = field(default="")

    @property
    def warns(self) -> bool:
        """Whether the money line repeats that one must not pay again."""
        return self.answer.money is MoneyTold.UNKNOWN


def status_view(
    operation: Operation,
    *,
    voice: Voice,
    locale: str,
    now: float,
    status_url: str,
    extras: Extras | None = None,
    specs: Mapping[Situation, AnswerSpec] = SPECS,
) -> StatusView:
    """What *operation*'s page shows at *now*."""
    known = extras or Extras()
    answer = _answer(operation, known, status_url=status_url, now=now, specs=specs)
    money = money_of(operation)
    labels = voice.catalogue.ui(locale)
    words = voice.words(answer, locale=locale, now=now)
    final = answer.situation in FINAL and operation.state in (State.FINISHED, State.CANCELLED)
    at = answer.about.next_update_at
    line = _money_line(labels, money, answer, locale=locale)
    can_cancel = answer.situation in CANCELLABLE
    shown = "\0".join((answer.situation, words.detail, line, str(can_cancel), str(known.order_url), str(known.resume_url)))
    return StatusView(
        answer=answer,
        words=words,
        tone=tone_of(answer.situation),
        final=final,
        money_line=line,
        steps=tuple((labels[name], mark) for name, mark in _steps(answer.situation)),
        next_update=None if final or at is None else label_markup(labels, "next_update", time=voice.time(at, locale=locale, now=now)),
        can_cancel=can_cancel,
        cancel_note=labels["cancel_note_not_charged" if answer.money is MoneyTold.NOT_CHARGED else "cancel_note_unknown"],
        extras=known,
        revision=hashlib.sha256(shown.encode()).hexdigest()[:12],
    )


def tone_of(situation: Situation) -> Tone:
    """How a page about *situation* looks."""
    return _TONES.get(situation, Tone.BAD)


def _answer(operation: Operation, extras: Extras, *, status_url: str, now: float, specs: Mapping[Situation, AnswerSpec]) -> Answer:
    money = money_of(operation)
    situation = situation_of_operation(operation, at_work=extras.at_work, doubted=extras.doubted)
    recorded = money_told_of(operation, doubted=extras.doubted)
    if extras.spooled:
        situation, recorded = spooled_situation(operation) or _S.SPOOLED, spooled_money(operation)
    refunded = situation is _S.REFUNDED
    about = About(
        reference=operation.reference,
        status_url=status_url,
        resume_url=extras.resume_url,
        next_update_at=_ahead(extras.next_update_at, now),
        ends_at=_ahead(operation.give_up_at, now),
        amount_minor=money.refunded_minor if refunded else operation.amount_minor,
        currency=money.currency if refunded else operation.currency,
        reason=asked_words(operation),
    )
    return answer_for(situation, about, recorded=recorded, specs=specs)


def _ahead(at: float | None, now: float) -> float | None:
    """A promise that has passed is not repeated."""
    return at if at is not None and at > now else None


def _money_line(labels: Mapping[str, str], money: Money, answer: Answer, *, locale: str) -> str:
    """Where the money is, in one line with exact amounts."""

    def line(name: str, amount_minor: int, **more: str) -> str:
        if not money.currency or not amount_minor:
            return labels.get(f"{name}_plain", labels["money_not_charged"])
        return fill(labels[name], {"amount": format_amount(amount_minor, money.currency, locale=locale), **more})

    if answer.money is MoneyTold.UNKNOWN:  # it may be an older copy, whatever it knows
        return labels["money_unknown"]
    match money.state:
        case MoneyState.CHARGED if money.refunded_minor and money.currency:
            back = format_amount(money.refunded_minor, money.currency, locale=locale)
            released = money.authorised_minor if money.refunded_minor > money.captured_minor else 0
            return line("money_part_refunded", money.captured_minor + released, refunded=back)
        case MoneyState.CHARGED if money.captured_minor:
            return line("money_charged", money.captured_minor)
        case MoneyState.CHARGED:
            return line("money_reserved", money.authorised_minor)
        case MoneyState.REFUNDED:
            return line("money_refunded", money.refunded_minor)
    return labels["money_not_charged" if answer.money is MoneyTold.NOT_CHARGED else "money_unknown"]


def _steps(situation: Situation) -> tuple[tuple[str, Mark], ...]:
    marks = _MARKS.get(situation)
    if marks is None:
        return ()
    payment, end, mark = marks
    return (("step_received", Mark.DONE), ("step_payment", payment), (end, mark))


_MARKS: Mapping[Situation, tuple[Mark, str, Mark]] = {
    _S.PLACED: (Mark.DONE, "step_order", Mark.DONE),
    _S.PLACED_RESERVED: (Mark.DONE, "step_order", Mark.DONE),
    _S.PAID_UNFINISHED: (Mark.DONE, "step_order", Mark.NOW),
    _S.RESERVED_UNFINISHED: (Mark.DONE, "step_order", Mark.NOW),
    _S.NEEDS_SHOPPER: (Mark.NOW, "step_order", Mark.COMING),
    _S.SHOPPER_ASKED: (Mark.NOW, "step_order", Mark.COMING),
    _S.KEPT: (Mark.COMING, "step_order", Mark.COMING),
    _S.REPLACED: (Mark.COMING, "step_order", Mark.COMING),
    _S.SPOOLED: (Mark.COMING, "step_order", Mark.COMING),
    _S.UNKNOWN: (Mark.NOW, "step_order", Mark.COMING),
    _S.HELD: (Mark.NOW, "step_order", Mark.COMING),
    _S.IN_FLIGHT: (Mark.NOW, "step_order", Mark.COMING),
    _S.CANCEL_ASKED: (Mark.NOW, "step_cancelled", Mark.NOW),
    _S.REFUND_DUE: (Mark.DONE, "step_cancelled", Mark.NOW),
    _S.DECLINED: (Mark.STOPPED, "step_order", Mark.STOPPED),
    _S.CANCELLED: (Mark.STOPPED, "step_cancelled", Mark.DONE),
    _S.GAVE_UP: (Mark.STOPPED, "step_cancelled", Mark.DONE),
}

_TONES: Mapping[Situation, Tone] = {
    **dict.fromkeys((_S.PLACED, _S.PLACED_RESERVED, _S.PAID_UNFINISHED, _S.RESERVED_UNFINISHED, _S.DUPLICATE), Tone.GOOD),
    **dict.fromkeys((_S.KEPT, _S.REPLACED, _S.SPOOLED, _S.IN_FLIGHT, _S.DUPLICATE_RUNNING, _S.BASKET_BEING_PAID), Tone.WAIT),
    **dict.fromkeys((_S.UNKNOWN, _S.HELD, _S.NEEDS_SHOPPER, _S.SHOPPER_ASKED, _S.CANCEL_ASKED, _S.MISMATCH), Tone.CARE),
    **dict.fromkeys((_S.CANCELLED, _S.GAVE_UP, _S.REFUNDED, _S.REFUND_DUE, _S.ANSWERED), Tone.PLAIN),
}
