"""Moving an operation from one store to another, so that there is never a moment in which both copies can act.

    source: free record --freeze--> frozen     nobody can lease it any more, here or after a restart, in whatever version
    target: nothing     --thaw----> record     made from the frozen one, which is whole, and only if it is not there yet

A move that stops between the two leaves an operation that nobody can act on until the move is run again; it then finds
the frozen record, and thaws it. Facts that still reach the frozen record are notes, and are carried after it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cxguard.core.money import MoneyState
from cxguard.core.operation import Entry, Move, Operation, State, WaitingFor, changed, money_of, move, remember

FROZEN_VERSION = 2**30  # newer than any cxguard will ever be: a record of this version is read, and never leased
CLAIMED_THERE = "claimed_there"  # an order waits for a person: the store that it came to has another one of the same purchase
RELOCATED_TO, RELOCATED_FROM = "relocated_to", "relocated_from"  # members that a record carries, with the id of the move

CLOCK_SECONDS = 2.0  # by which two stores' clocks may be apart and be taken for the same


class Stage(StrEnum):
    """How far the move of a whole store has come."""

    MOVING = "moving"
    MOVED = "moved"
    ARRIVING = "arriving"  # of the store that they come to: not all are there yet, and one that is missing would look new


@dataclass(frozen=True, slots=True)
class Relocation:
    """What a store says of its own move: the value of a small marker in it.

    Attributes:
        to: the other store's address, without a password: for people. (Of one where they arrive: where they come from.)
        id: random, one for each move of a store: its records are known by it.
    """

    stage: Stage
    to: str
    id: str

    def to_bytes(self) -> bytes:
        return json.dumps({"stage": self.stage, "to": self.to, "id": self.id}).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Relocation | None:
        """The marker; None for none. One that cannot be read means that something was moved."""
        if not value:
            return None
        try:
            read = json.loads(value)
            return cls(Stage(read["stage"]), str(read["to"]), str(read["id"]))
        except (ValueError, KeyError, TypeError):
            return cls(Stage.MOVED, "another store", "")


def is_frozen(operation: Operation) -> bool:
    """Whether it was given up for another store."""
    return operation.version == FROZEN_VERSION and RELOCATED_TO in operation.extra


def came_from(operation: Operation) -> str:
    """The id of the move that brought it; empty: it was opened where it is."""
    return str(operation.extra.get(RELOCATED_FROM, ""))


def frozen(operation: Operation, *, seen: Operation, move: str) -> Operation:
    """The record that stays behind: whole, and of no use to anybody who acts.

    Args:
        operation: as leased for this.
        seen: as it was before that lease, with its own times.
        move: the id of the move.
    """
    before = {"move": move, "version": seen.version, "updated_at": seen.updated_at, "due_at": seen.due_at}
    return changed(operation, version=FROZEN_VERSION, due_at=None, extra={**operation.extra, RELOCATED_TO: before})


def thawed(operation: Operation, *, later_seconds: float = 0.0) -> Operation:
    """The record for the other store, from the frozen one.

    Args:
        later_seconds: by how much the other store's clock is ahead: due times run on the store's own.
    """
    before: dict[str, Any] = operation.extra[RELOCATED_TO]
    others = {name: value for name, value in operation.extra.items() if name != RELOCATED_TO}
    return changed(
        operation,
        version=before["version"],
        updated_at=before["updated_at"],
        due_at=_due_at(operation, before["due_at"], later_seconds),
        lease=None,
        extra={**others, RELOCATED_FROM: before["move"]},
    )


def _due_at(operation: Operation, due_at: float | None, later_seconds: float) -> float | None:
    """As it was; facts that nobody has folded yet make it due when they came."""
    times = [] if due_at is None else [due_at]
    times += [operation.updated_at] if len(operation.notes) > operation.notes_seen else []
    return min(times) + later_seconds if times else None


def joined(stub: Operation, whole: Operation) -> Operation:
    """*whole*, with the facts that came before it to a stub of its id. Due with the stub, so that they are folded."""
    known = {note.event_id for note in whole.notes}
    notes = (*whole.notes, *(note for note in stub.notes if note.event_id not in known))
    times = [at for at in (whole.due_at, stub.updated_at) if at is not None]
    return changed(whole, notes=notes, due_at=min(times))


def without_claim(operation: Operation, claim: str) -> Operation | None:
    """An order that is over leaves a claim to whoever has it by now; None: it is not over, and may not act beside that one."""
    ended = operation.state in (State.FINISHED, State.CANCELLED) and money_of(operation).state is not MoneyState.UNKNOWN
    return changed(operation, claims=tuple(each for each in operation.claims if each != claim)) if ended else None


def held_beside(operation: Operation, claim: str, *, now: float) -> Operation:
    """An order that is not over, where another one has its *claim*: both could charge, so a person says which one stands.

    It comes along whole, so that its key is known there and its payment is found. It is looked up and cancelled as ever;
    nothing is placed or sent for it.
    """
    waits: dict[str, Any] = {
        "why": CLAIMED_THERE,
        "waiting_for": WaitingFor.AGENT,
        "claims": tuple(each for each in operation.claims if each != claim),
        "sends": tuple(replace(send, parcel=None) for send in operation.sends),
        "due_at": operation.due_at,
        "updated_at": now,
    }
    held = changed(operation, **waits) if operation.state is State.HELD else move(operation, Move.HOLD, **waits)
    return remember(held, Entry(now, "order.held", "migrate-store", {"why": CLAIMED_THERE}))


def difference(expected: Operation, there: Operation | None) -> str:
    """What is wrong with the copy of *expected*, in words; empty: nothing.

    A copy that has been worked on since, or waits for a person beside another order, must still hold every send and every proof
    that came along.
    """
    if there is None:
        return "is missing"
    if came_from(there) != came_from(expected):
        return "is another record"
    if there.updated_at == expected.updated_at and len(there.notes) == len(expected.notes) and there.why != CLAIMED_THERE:
        plain = {"revision": 0, "lease": None, "claims": (), "due_at": None}
        same_due = _close(there.due_at, expected.due_at)
        return "" if same_due and changed(there, **plain) == changed(expected, **plain) else "differs"
    sends = {(send.number, send.key) for send in there.sends}
    if any((send.number, send.key) not in sends for send in expected.sends):
        return "lacks a send"
    events = {note.event_id for note in there.notes}
    return "lacks a note" if any(note.outcome is not None and note.event_id not in events for note in expected.notes) else ""


def _close(one: float | None, other: float | None) -> bool:
    return abs(one - other) <= CLOCK_SECONDS if one is not None and other is not None else one == other
