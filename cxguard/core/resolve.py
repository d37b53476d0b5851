"""What to do next with an operation whose lease we hold: one duty at a time, the unknown always first.

    a refund, or a capture,
      without an answer             look it up, or send the very same again
    a charge that is unknown        find; the very same key again (where that is right: by the shop's own code, too); wait;
                                    at last a person
                                    (at once, when another amount was found than was asked for)
    a second charge, or one on a
      cancelled order               give it back, unasked
    charged                         complete the order; without `later` a person does
    declined                        that is the end, and the shopper is told
    surely not charged              cancel if asked or over; else place it, if it is kept; else let it go
    held                            proof leads out of doubt; out of anything else only a person does

Nothing here charges under another key, and nothing unknown is cancelled or called failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cxguard.core.again import is_remembered, may_run_again, send_to_repeat
from cxguard.core.asks import CARD_DECLINED, TRY_FAILED, falls_back
from cxguard.core.decide import LET_GO, NOT_KEPT, ORDER_MISSING, RELEASED
from cxguard.core.figures import failed_refunds, figures_of, standing_minor
from cxguard.core.lost import is_of_later_try
from cxguard.core.money import (
    Money,
    MoneyState,
    NoteKind,
    Send,
    SendKind,
    fold,
    pending_captures,
    pending_refunds,
    unanswered,
)
from cxguard.core.operation import ENDED, Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import OTHER_FIGURES, Charged, NeedsShopper, Unknown
from cxguard.core.spooling import WHY_SAME_AS
from cxguard.core.standing import differs_from_asked, proof_of_charge, told_of
from cxguard.core.wishes import WHY_LATE, is_in_time

SHOP = "shop"  # the gateway name of sends that the shop's own code makes
CHARGED_AFTER_END = "charged_after_end"
AMOUNT_DIFFERS = "amount_differs"  # from what was asked for: placing the order would ask for the rest, or be refused
LOOKS_MAX = 12  # looks at one unknown; at the schedule's pauses about half an hour
LOOK_EVENT = "payment.looked_up"
SILENCE_EVENT = "payment.look_unanswered"  # not a look: while a gateway is away, no order goes to a person for it
SILENCE_SECONDS_MAX = 3_600.0  # after the order's own end: a gateway that has said nothing until then will not


@dataclass(frozen=True, slots=True)
class Ways:
    """What can be done about an operation, by its rule and gateway.

    Attributes:
        find: somebody can be asked (the gateway, or the rule's hook).
        resend: the gateway honours keys, so the very same send may be repeated.
        key_lifetime_seconds: how long the gateway remembers a key, from its first send.
        settle_seconds: after this time an unanswered send can no longer appear at the gateway.
        later: the rule says how an order is placed without the shopper.
        rerun: it does so by the shop's own code, which passes our gateway key on: over an unknown it charges no second time.
        ask: the shopper can be sent back to the checkout, to go on with the order.
        looks_max: after so many looks at an unknown a person takes over.
        lost: a failover may have taken later tries of it back.
    """

    find: bool
    resend: bool
    later: bool
    key_lifetime_seconds: float = 86_400.0
    settle_seconds: float = 0.0
    looks_max: int = LOOKS_MAX
    ask: bool = False
    rerun: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Find:
    """Ask what became of *key*; `cancel`: and make sure that it can never complete."""

    key: str
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class Resend:
    """Send the very same charge again, under the very same key: the gateway answers for the key."""

    send: Send


@dataclass(frozen=True, slots=True)
class Refund:
    """Give back the charge under *key*."""

    key: str
    amount_minor: int
    currency: str
    payment_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Place:
    """Place the order by the rule's `later`; it charges only what is not charged yet."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end is known: paid and answered, declined, or refunded."""

    why: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """End it without a charge, and tell the shopper."""

    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Only somebody else can go on."""

    why: str
    waiting_for: WaitingFor


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before *until* (wall clock; None: until someone comes)."""

    until: float | None
    why: str


Duty: TypeAlias = Find | Resend | Refund | Place | Finish | Cancel | Hold | Wait


def next_duty(operation: Operation, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    """The one next thing to do.

    Args:
        looked: what was tried in this very run (`key`, `resend:key`, `refund:key`): once is enough.
        now: wall clock, seconds since the epoch.
    """
    money = money_of(operation)
    if money.refund_pending:
        key = pending_refunds(operation.sends, operation.notes)[0]
        return _move_pending(operation, key, ways, why="refund_unknown", looked=looked, now=now)
    if money.capture_pending:
        key = pending_captures(operation.sends, operation.notes)[0]
        return _move_pending(operation, key, ways, why="capture_unknown", looked=looked, now=now)
    if money.unknown_keys:
        return _unknown(operation, money, ways, looked=looked, now=now)
    if money.charged_keys:
        return _charged(operation, money, ways, looked=looked, now=now)
    if money.state is MoneyState.REFUNDED:
        return Cancel("refunded") if operation.state is not State.FINISHED else Finish("refunded")
    if money.state is MoneyState.DECLINED:
        return _declined(operation, ways, now=now)
    return _none(operation, ways, now=now)


def looks_at(operation: Operation) -> int:
    """How often somebody was asked what became of it, answered or not: the more often, the longer until the next time."""
    return sum(entry.event in (LOOK_EVENT, SILENCE_EVENT) for entry in operation.history)


def ends_uncharged(operation: Operation, duty: Duty) -> bool:
    """Whether *duty* ends the order, or tells its shopper, as one that surely was not charged."""
    tells = isinstance(duty, Cancel | Finish) or (isinstance(duty, Hold) and duty.why == CARD_DECLINED)
    return tells and operation.state not in ENDED and money_of(operation).state in (MoneyState.NONE, MoneyState.DECLINED)


def tells_paid(duty: Duty) -> bool:
    """Whether *duty* goes by the word that the order is paid: it is completed, it ends, or a person is told to complete it, or to
    give the money back."""
    return isinstance(duty, Place | Finish) or (isinstance(duty, Hold) and duty.why in (ORDER_MISSING, AMOUNT_DIFFERS, "refund_due"))


def tells_other_figures(operation: Operation) -> bool:
    """Whether the newest look found a charge of another amount or currency than was asked for."""
    looks = [entry for entry in operation.history if entry.event == LOOK_EVENT]
    return bool(looks) and str(looks[-1].detail.get("why", "")).startswith(OTHER_FIGURES)


# --- unknown


def _unknown(operation: Operation, money: Money, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    unwanted = _is_unwanted(operation, money, now)
    fresh = [key for key in money.unknown_keys if key not in looked]
    if ways.find and fresh:
        return Find(fresh[0], cancel=unwanted)
    if ways.find and tells_other_figures(operation):
        return Hold(AMOUNT_DIFFERS, WaitingFor.AGENT)  # asking again would tell the same, and the shopper's money is there
    if not unwanted and any(_needs_shopper(operation, key) for key in money.unknown_keys):
        return Hold("needs_shopper", WaitingFor.SHOPPER)
    send = _same_again(operation, money, ways, now=now)
    if send is not None and f"resend:{send.key}" not in looked:
        return Resend(send)
    if _runs_again(operation, money, ways, now=now):
        return Place()
    if not ways.find and send is None:
        return Hold("charge_unknown", WaitingFor.AGENT)
    if operation.give_up_at is not None and now >= operation.give_up_at + SILENCE_SECONDS_MAX:
        return Hold("unknown_unresolved", WaitingFor.AGENT)
    return _wait_or_hold(operation, money.unknown_keys, ways, hold="unknown_unresolved", wait="charge_unknown", now=now)


def _is_unwanted(operation: Operation, money: Money, now: float) -> bool:
    """Whether a charge that is still under way should never complete: the order is over, or paid by another one."""
    over = operation.cancel_asked or _gave_up(operation, now) or operation.state in ENDED
    return over or bool(money.charged_keys)


def _same_again(operation: Operation, money: Money, ways: Ways, *, now: float) -> Send | None:
    """The send to repeat, where that is right."""
    if not ways.resend or _needs_shopper(operation, money.unknown_keys[0]) or _is_unwanted(operation, money, now):
        return None
    return send_to_repeat(operation, money.unknown_keys, key_lifetime_seconds=ways.key_lifetime_seconds, now=now)


def _runs_again(operation: Operation, money: Money, ways: Ways, *, now: float) -> bool:
    """Whether the shop's own code makes the charge, or hears of it. Not while nobody answers: then it would fail, too."""
    looks = [entry.event for entry in operation.history if entry.event in (LOOK_EVENT, SILENCE_EVENT)]
    if not ways.rerun or _is_unwanted(operation, money, now) or (ways.find and looks[-1:] != [LOOK_EVENT]):
        return False
    return looks.count(LOOK_EVENT) < ways.looks_max and may_run_again(operation, money.unknown_keys, now=now)


def _needs_shopper(operation: Operation, key: str) -> bool:
    return any(isinstance(outcome, NeedsShopper) for outcome in told_of(operation, key))


def _wait_or_hold(operation: Operation, keys: Sequence[str], ways: Ways, *, hold: str, wait: str, now: float) -> Duty:
    """Look again later; at last, and not before a late send must have shown up, a person."""
    silent = [send for send in operation.sends if send.key in keys and isinstance(send.outcome, Unknown | NeedsShopper)]
    settled_at = max((send.sent_at + ways.settle_seconds for send in silent), default=now)
    if _tries(operation, keys) < ways.looks_max:
        return Wait(now, wait)
    return Wait(settled_at, wait) if now < settled_at else Hold(hold, WaitingFor.AGENT)


def _tries(operation: Operation, keys: Sequence[str]) -> int:
    """How often we asked, or sent the same again, in vain."""
    looks = sum(entry.event == LOOK_EVENT for entry in operation.history)
    return looks + sum(len(unanswered(operation.sends, operation.notes, key)) for key in keys)


# --- charged


def _charged(operation: Operation, money: Money, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    if operation.state in ENDED and len(money.charged_keys) == 1 and is_of_later_try(operation, money.charged_keys[0], lost=ways.lost):
        return Hold(CHARGED_AFTER_END, WaitingFor.AGENT)  # pressed again, in lost writes: the shop may have sent the goods
    if operation.state is State.CANCELLED or is_in_time(operation):
        return _refund(operation, money.charged_keys[0], "cancelled", ways, looked=looked, now=now)
    if len(money.charged_keys) > 1:
        return _refund(operation, _surplus(operation, money.charged_keys), "second_charge", ways, looked=looked, now=now)
    if operation.state is State.FINISHED:
        return _finished_and_charged(operation)
    if operation.state is State.HELD and operation.why not in _IN_DOUBT:
        return _still_held(operation)
    if operation.state is State.HELD and operation.answered_at is not None:
        # it had ended well before the doubt came up; so did it before a wish that got here
        return Hold(WHY_LATE, WaitingFor.AGENT) if operation.cancel_asked else Finish("paid")
    if operation.answer is not None and operation.state is State.RUNNING:
        return Hold("answered_not_confirmed", WaitingFor.AGENT)
    if ways.later:
        return Hold(AMOUNT_DIFFERS, WaitingFor.AGENT) if differs_from_asked(operation, money.charged_keys[0]) else Place()
    return Hold(ORDER_MISSING, WaitingFor.AGENT)


def _surplus(operation: Operation, keys: tuple[str, ...]) -> str:
    """The charge that goes back: the one that its caller was never told of (the shop has the other one's name), else the last."""
    told = {send.key for send in operation.sends if isinstance(send.outcome, Charged)}
    untold = [key for key in keys if key not in told]
    return untold[-1] if 0 < len(untold) < len(keys) else keys[-1]


def _finished_and_charged(operation: Operation) -> Duty:
    """The usual end, unless what was given back came back, or the last save knew of no charge (the shopper was told so), or a
    wish to cancel came after it."""
    known = operation.notes[: operation.notes_seen]
    if failed_refunds(operation.sends, operation.notes) - failed_refunds(operation.sends, known):
        return Hold("refund_failed", WaitingFor.AGENT)  # first: all of it may have gone back, so that no charge was known
    if fold(operation.sends, known, generation=operation.generation).state is not MoneyState.CHARGED:
        return Hold(CHARGED_AFTER_END, WaitingFor.AGENT)
    if any(note.kind is NoteKind.CANCEL for note in operation.notes[operation.notes_seen :]):
        return Hold(WHY_LATE, WaitingFor.AGENT)
    return Finish("paid")


def _refund(operation: Operation, key: str, why: str, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    """Under a gateway name that we cannot call (the shop's own charging) only a person can give back."""
    send = next((send for send in operation.sends if send.key == key), None)
    proof = proof_of_charge(operation, key)
    amount_minor = _to_give_back(operation, key)
    if send is None or send.gateway == SHOP or proof is None or not amount_minor:
        return Hold(CHARGED_AFTER_END if operation.why in LET_GO else "refund_due", WaitingFor.AGENT)
    if failed_refunds(operation.sends, operation.notes, key):  # the bank sent it back: by which way it goes now, a person finds out
        return Hold("refund_failed", WaitingFor.AGENT)
    if f"refund:{key}" in looked:  # it was refused just now
        return _wait_or_hold(operation, (), ways, hold="refund_due", wait="refund_due", now=now)
    return Refund(key, amount_minor, proof.currency, proof.payment_id, why)


def _to_give_back(operation: Operation, key: str) -> int:
    """All that was taken; of a charge that is only reserved, all of it. What a part leaves reserved lapses at the gateway."""
    figures = figures_of(operation.sends, operation.notes, key)
    if figures is not None and figures.captured_minor:
        return figures.refundable_minor
    return standing_minor(operation.sends, operation.notes, key)


def _move_pending(operation: Operation, key: str, ways: Ways, *, why: str, looked: frozenset[str], now: float) -> Duty:
    """A refund, void or capture without an answer: the very same again while its key is remembered; else a look, or a person."""
    last = [send for send in operation.sends if send.key == key][-1]
    again = last.keyed and ways.resend and is_remembered(operation, key, ways.key_lifetime_seconds, now=now)
    if again and f"resend:{key}" not in looked:
        return Resend(last)
    asked = last.of if last.kind is SendKind.CAPTURE and last.of else key  # the charge itself says how much of it was taken
    if ways.find and asked not in looked:
        return Find(asked)
    if not again and not ways.find:
        return Hold(why, WaitingFor.AGENT)
    return _wait_or_hold(operation, (key,), ways, hold=why, wait=why, now=now)


# --- declined


def _declined(operation: Operation, ways: Ways, *, now: float) -> Duty:
    """The end, told where it was said; an order that was accepted, and whose shopper is away, waits for another card."""
    asked = operation.state is State.HELD and operation.why == CARD_DECLINED
    if asked and operation.cancel_asked:
        return Cancel("cancel_asked")
    if asked and _gave_up(operation, now):
        return Cancel("gave_up")
    if asked or (ways.ask and operation.kept and operation.state not in ENDED and not _is_unwanted(operation, money_of(operation), now)):
        return Hold(CARD_DECLINED, WaitingFor.SHOPPER)
    return Finish("declined")


# --- surely not charged


def _none(operation: Operation, ways: Ways, *, now: float) -> Duty:
    if operation.state in ENDED:
        return Finish("ended")
    if operation.why == WHY_SAME_AS:
        return Cancel(WHY_SAME_AS)
    if operation.cancel_asked:
        return Cancel("cancel_asked")
    if _gave_up(operation, now):
        return Cancel("gave_up")
    if operation.state is State.HELD and operation.why not in _IN_DOUBT:
        return _still_held(operation)
    if operation.state is State.RUNNING and operation.answer is not None:
        return Hold("answered_not_confirmed", WaitingFor.AGENT)
    if not operation.kept and operation.asked_until is not None:
        return Hold(TRY_FAILED, WaitingFor.SHOPPER) if falls_back(operation, now=now) else Cancel("gave_up")
    if operation.state is State.HELD and operation.why == "needs_shopper":
        return Cancel("needs_shopper")  # the payment ended at the bank: its key can charge no more
    if ways.later and operation.kept:
        return Place()
    if operation.steps:
        return Wait(operation.give_up_at, operation.why or "steps_kept")
    return Cancel(RELEASED if operation.state is State.RUNNING else NOT_KEPT)


_IN_DOUBT = frozenset(
    {"charge_unknown", "unknown_unresolved", AMOUNT_DIFFERS, "needs_shopper", "refund_due", "refund_unknown", "capture_unknown"}
)


def _still_held(operation: Operation) -> Hold:
    """A person took it, or has to: a webhook that confirms what we know must not run anything again."""
    return Hold(operation.why or "held", operation.waiting_for or WaitingFor.AGENT)


def _gave_up(operation: Operation, now: float) -> bool:
    return operation.give_up_at is not None and now >= operation.give_up_at
