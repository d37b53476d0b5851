"""What to do next with an operation whose lease we hold: one duty at a time, the unknown always first.

    a refund without an answer      look it up, or send the very same refund again
    a charge that is unknown        find; the very same key again (where that is right); wait; at last a person
    a second charge, or one on a
      cancelled order               give it back, unasked
    charged                         complete the order; without `later` a person does
    declined                        that is the end, and the shopper is told
    surely not charged              cancel if asked or over; else place it, if it is kept; else let it go

Nothing here charges under another key, and nothing unknown is cancelled or called failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cxguard.core.money import Money, MoneyState, Send, SendKind, unanswered
from cxguard.core.operation import Entry, Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import Charged, NeedsShopper

SHOP = "shop"  # the gateway name of sends that the shop's own code makes
LOOKS_MAX = 12  # looks at one unknown; at the schedule's pauses about half an hour
LOOK_EVENT = "payment.looked_up"


@dataclass(frozen=True, slots=True)
class Ways:
    """What can be done about an operation, by its rule and gateway.

    Attributes:
        find: somebody can be asked (the gateway, or the rule's hook).
        resend: the gateway honours keys, so the very same send may be repeated.
        key_lifetime_seconds: how long the gateway remembers a key, from its first send.
        settle_seconds: after this time an unanswered send can no longer appear at the gateway.
        later: the rule says how an order is placed without the shopper.
        looks_max: after so many looks at an unknown a person takes over.
    """

    find: bool
    resend: bool
    later: bool
    key_lifetime_seconds: float = 86_400.0
    settle_seconds: float = 0.0
    looks_max: int = LOOKS_MAX


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
        return _refund_pending(operation, ways, looked=looked, now=now)
    if money.unknown_keys:
        return _unknown(operation, money, ways, looked=looked, now=now)
    if money.charged_keys:
        return _charged(operation, money, ways, looked=looked, now=now)
    if money.state is MoneyState.REFUNDED:
        return Cancel("refunded") if operation.state is not State.FINISHED else Finish("refunded")
    if money.state is MoneyState.DECLINED:
        return Finish("declined")
    return _none(operation, ways, now=now)


def _unknown(operation: Operation, money: Money, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    fresh = [key for key in money.unknown_keys if key not in looked]
    if ways.find and fresh:
        return Find(fresh[0], cancel=_must_not_complete(operation, now))
    key = money.unknown_keys[0]
    if _needs_shopper(operation, key):
        if not _must_not_complete(operation, now):
            return Hold("needs_shopper", WaitingFor.SHOPPER)
        return _wait_or_hold(operation, ways, now=now)
    last = unanswered(operation.sends, operation.notes, key)
    if last and f"resend:{key}" not in looked and _may_resend(operation, last, ways, now=now):
        return Resend(last[-1])
    return _wait_or_hold(operation, ways, now=now)


def _may_resend(operation: Operation, open_sends: Sequence[Send], ways: Ways, *, now: float) -> bool:
    """The same key again is right only while the gateway remembers it, and while charging would still be wanted."""
    first = min(send.sent_at for send in operation.sends if send.key == open_sends[-1].key)
    remembered = now - first < ways.key_lifetime_seconds
    wanted = not _must_not_complete(operation, now) and operation.state is not State.CANCELLED
    last = open_sends[-1]
    return ways.resend and last.keyed and last.parcel is not None and remembered and wanted


def _wait_or_hold(operation: Operation, ways: Ways, *, now: float) -> Duty:
    if not ways.find and not ways.resend:
        return Hold("charge_unknown", WaitingFor.AGENT)
    if _looks(operation.history) >= ways.looks_max:
        return Hold("unknown_unresolved", WaitingFor.AGENT)
    return Wait(now, "charge_unknown")


def _charged(operation: Operation, money: Money, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    if operation.cancel_asked or operation.state is State.CANCELLED:
        return _refund(operation, money.charged_keys[0], "cancelled", ways, looked=looked, now=now)
    if len(money.charged_keys) > 1:
        return _refund(operation, money.charged_keys[-1], "second_charge", ways, looked=looked, now=now)
    if operation.state is State.FINISHED:
        return Finish("paid")
    if operation.answer is not None and operation.state is State.RUNNING:
        return Hold("answered_not_confirmed", WaitingFor.AGENT)
    if ways.later:
        return Place()
    return Hold("order_missing", WaitingFor.AGENT)


def _none(operation: Operation, ways: Ways, *, now: float) -> Duty:
    if operation.state in (State.FINISHED, State.CANCELLED):
        return Finish("ended")
    if operation.cancel_asked:
        return Cancel("cancel_asked")
    if _gave_up(operation, now):
        return Cancel("gave_up")
    if operation.state is State.HELD:
        return Hold(operation.why or "held", operation.waiting_for or WaitingFor.AGENT)
    if ways.later and operation.kept:
        return Place()
    if operation.steps and operation.give_up_at is not None:
        return Wait(operation.give_up_at, operation.why or "steps_kept")
    return Cancel("not_kept")


def _refund(operation: Operation, key: str, why: str, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    """Under a gateway name that we cannot call (the shop's own charging) only a person can give back."""
    send = next((send for send in operation.sends if send.key == key), None)
    proof = _proof(operation, key)
    if send is None or send.gateway == SHOP or proof is None or not proof.payment_id:
        return Hold("refund_due", WaitingFor.AGENT)
    if f"refund:{key}" in looked:  # it was refused just now
        tried_out = _looks(operation.history) >= ways.looks_max
        return Hold("refund_due", WaitingFor.AGENT) if tried_out else Wait(now, "refund_due")
    return Refund(key, proof.amount_minor, proof.currency, proof.payment_id, why)


def _refund_pending(operation: Operation, ways: Ways, *, looked: frozenset[str], now: float) -> Duty:
    back = [send for send in operation.sends if send.kind in (SendKind.REFUND, SendKind.VOID)]
    pending = next(send for send in back if unanswered(operation.sends, operation.notes, send.key))
    if pending.keyed and ways.resend and f"resend:{pending.key}" not in looked:
        return Resend(pending)
    if _looks(operation.history) >= ways.looks_max or not ways.resend:
        return Hold("refund_unknown", WaitingFor.AGENT)
    return Wait(now, "refund_unknown")


def _proof(operation: Operation, key: str) -> Charged | None:
    own = [send.outcome for send in operation.sends if send.key == key]
    noted = [note.outcome for note in operation.notes if note.gateway_key == key]
    return next((outcome for outcome in own + noted if isinstance(outcome, Charged)), None)


def _needs_shopper(operation: Operation, key: str) -> bool:
    return any(isinstance(send.outcome, NeedsShopper) for send in operation.sends if send.key == key)


def _must_not_complete(operation: Operation, now: float) -> bool:
    return operation.cancel_asked or _gave_up(operation, now)


def _gave_up(operation: Operation, now: float) -> bool:
    return operation.give_up_at is not None and now >= operation.give_up_at


def _looks(history: Sequence[Entry]) -> int:
    """How often we have asked, or tried in vain."""
    return sum(entry.event == LOOK_EVENT for entry in history)
