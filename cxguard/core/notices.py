"""What the shopper of a kept order is to be told beside the page, each once: read from the record, so that no crash forgets it.

    accepted         we have the order; it is not charged yet, or nobody knows: `money` says which
    action_needed    it waits for its shopper
    delayed          the time that we named has passed
    paid             it was charged and placed
    expired          its time is over; it was not charged
    cancelled        it ended otherwise, and no charge stands; not where the shop itself has answered without one

Only orders that were kept with the shopper's word: whoever was there heard it from the shop's own page.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from cxguard.core.answer import WHY_GAVE_UP
from cxguard.core.asks import link_generation
from cxguard.core.money import MoneyState
from cxguard.core.operation import NoticeLine, Operation, State, WaitingFor, changed, money_of
from cxguard.core.schedule import backoff_seconds

PROMISE_SECONDS = 1_800.0  # the shopper is told "you hear from us by then"
TRIES_MAX = 12  # about an hour; then the shop's mail is down, and its people hear of that


class NoticeKind(StrEnum):
    """What a notice says."""

    ACCEPTED = "accepted"
    PAID = "paid"
    ACTION_NEEDED = "action_needed"
    DELAYED = "delayed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDS = (NoticeKind.PAID, NoticeKind.EXPIRED, NoticeKind.CANCELLED)


def owed(operation: Operation, *, now: float) -> tuple[NoticeKind, ...]:
    """The notices to be given now, oldest first: not yet given, and not tried in vain a moment ago.

    Args:
        now: wall clock, seconds since the epoch.
    """
    return tuple(kind for kind in _meant(operation, now=now) if (at := _due_at(operation, kind, now=now)) is not None and at <= now)


def next_notice_at(operation: Operation, *, now: float) -> float | None:
    """When the next one is to be given; None: there is none to come while the record stays as it is."""
    moments = [_due_at(operation, kind, now=now) for kind in _meant(operation, now=now)]
    if operation.consent is not None and _may_be_delayed(operation) and now < operation.consent.at + PROMISE_SECONDS:
        moments.append(operation.consent.at + PROMISE_SECONDS)
    return min((moment for moment in moments if moment is not None), default=None)


def due_for_notice(operation: Operation, *, now: float) -> Operation:
    """The record as it is saved when its lease ends: due in time for its next notice.

    A queued one keeps its time: it comes soon by itself, and sooner would be a charge tried too early.
    """
    at = next_notice_at(operation, now=now) if operation.state is not State.QUEUED else None
    if at is None or (operation.due_at is not None and operation.due_at <= at):
        return operation
    return changed(operation, due_at=at)


def tried(operation: Operation, kind: NoticeKind, *, now: float, done: bool = False) -> Operation:
    """The record with one more try of *kind*, or (with *done*) with the try that went well."""
    before = _line(operation, kind) or NoticeLine(kind.value, link_generation(operation), at=now)
    line = replace(before, at=now, done=True) if done else replace(before, at=now, tries=before.tries + 1)
    others = tuple(one for one in operation.notices if (one.kind, one.generation) != (line.kind, line.generation))
    return changed(operation, notices=(*others, line))


def tries_of(operation: Operation, kind: NoticeKind) -> int:
    """How often *kind* was tried in this life of the order."""
    line = _line(operation, kind)
    return line.tries if line is not None else 0


def _meant(operation: Operation, *, now: float) -> tuple[NoticeKind, ...]:
    """What the record, as it stands, has to tell its shopper; given or not."""
    if operation.consent is None or not operation.kept:
        return ()
    money = money_of(operation).state
    match operation.state:
        case State.FINISHED if money is MoneyState.CHARGED:
            return (NoticeKind.PAID,)
        case State.CANCELLED if money in (MoneyState.CHARGED, MoneyState.UNKNOWN):
            return ()  # a late fact: money goes back first
        case State.FINISHED if money in (MoneyState.UNKNOWN, MoneyState.NONE):
            return ()  # not known; or placed on invoice, say: it is not cancelled
        case State.FINISHED if money is MoneyState.REFUNDED and _heard(operation, NoticeKind.PAID) and not operation.cancel_asked:
            return ()  # it was placed: money that went back since, for whatever reason, does not make it cancelled
        case State.FINISHED | State.CANCELLED:
            return (NoticeKind.EXPIRED if operation.why == WHY_GAVE_UP else NoticeKind.CANCELLED,)
        case State.HELD if operation.waiting_for is WaitingFor.SHOPPER:
            return (NoticeKind.ACCEPTED, NoticeKind.ACTION_NEEDED)
    if _heard(operation, *ENDS):  # held since then, for a refund without an answer, say: nothing is late
        return ()
    late = now >= operation.consent.at + PROMISE_SECONDS
    return (NoticeKind.ACCEPTED, NoticeKind.DELAYED) if late else (NoticeKind.ACCEPTED,)


def _heard(operation: Operation, *kinds: NoticeKind) -> bool:
    """Whether one of *kinds* was given, or tried."""
    return any(_line(operation, kind) is not None for kind in kinds)


def _may_be_delayed(operation: Operation) -> bool:
    waits = operation.state is State.HELD and operation.waiting_for is not WaitingFor.SHOPPER
    return operation.kept and waits and not _heard(operation, *ENDS)


def _due_at(operation: Operation, kind: NoticeKind, *, now: float) -> float | None:
    """When *kind* is to be given; None: it was, or it has been tried often enough."""
    line = _line(operation, kind)
    if line is None:
        return now
    return None if line.done or line.tries >= TRIES_MAX else line.at + backoff_seconds(line.tries)


def _line(operation: Operation, kind: NoticeKind) -> NoticeLine | None:
    life = (kind.value, link_generation(operation))  # a try that charged nothing begins no life that is told anew
    return next((line for line in operation.notices if (line.kind, line.generation) == life), None)
