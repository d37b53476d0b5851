"""The operation: one thing that a shopper asked for and that takes effect at most once. One record, one lease.

    (nothing) --open--> running --finish--> finished       its answer is stored and replayed
                          |  ^  \\--hold---> held          a person, the shopper or proof leads out
                     defer|  |start            | requeue
                          +->queued <----------+
    queued, running, held --cancel--> cancelled            only while the money is surely not with us
    finished, cancelled --reopen--> running or queued      the next generation, only without a standing charge
    cancelled --rerun--> running                           the same generation: it was let go, and nothing is known under its keys
    held --reopen--> running                               its shopper goes on with it: the same, with another card, say

Every legal move is in `MOVES`, every demand on the money in `MONEY_FOR`; `move` is the only way from state to state.
A lapsed lease is no state: the next `take` or `seize` gives the record a new lease token, and the old one's writes
are refused from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from cxguard.core.consent import Consent
from cxguard.core.money import Money, MoneyState, Note, NoteKind, Send, fold
from cxguard.errors import IllegalMove

RECORD_VERSION = 1  # a record with a higher one was written by a newer cxguard: read, never leased
HISTORY_MAX = 64  # entries; the first eight are kept, then the newest
HISTORY_HEAD = 8


class State(StrEnum):
    """What is happening with the work."""

    RUNNING = "running"
    QUEUED = "queued"
    HELD = "held"
    FINISHED = "finished"
    CANCELLED = "cancelled"


ENDED = frozenset({State.FINISHED, State.CANCELLED})  # nobody works on it, and nothing is due by itself


class Move(StrEnum):
    """What a holder may do with the work."""

    START = "start"
    FINISH = "finish"
    DEFER = "defer"
    HOLD = "hold"
    REQUEUE = "requeue"
    CANCEL = "cancel"
    RERUN = "rerun"
    REOPEN = "reopen"
    REOPEN_QUEUED = "reopen_queued"


class WaitingFor(StrEnum):
    """Whom a held operation waits for."""

    AGENT = "agent"
    SHOPPER = "shopper"
    GATEWAY = "gateway"


MOVES: Mapping[tuple[State, Move], State] = {
    (State.RUNNING, Move.FINISH): State.FINISHED,
    (State.RUNNING, Move.DEFER): State.QUEUED,
    (State.RUNNING, Move.HOLD): State.HELD,
    (State.RUNNING, Move.CANCEL): State.CANCELLED,
    (State.QUEUED, Move.START): State.RUNNING,
    (State.QUEUED, Move.DEFER): State.QUEUED,
    (State.QUEUED, Move.HOLD): State.HELD,
    (State.QUEUED, Move.FINISH): State.FINISHED,
    (State.QUEUED, Move.CANCEL): State.CANCELLED,
    (State.HELD, Move.START): State.RUNNING,
    (State.HELD, Move.REOPEN): State.RUNNING,
    (State.HELD, Move.HOLD): State.HELD,
    (State.HELD, Move.REQUEUE): State.QUEUED,
    (State.HELD, Move.FINISH): State.FINISHED,
    (State.HELD, Move.CANCEL): State.CANCELLED,
    (State.FINISHED, Move.HOLD): State.HELD,
    (State.FINISHED, Move.REOPEN): State.RUNNING,
    (State.FINISHED, Move.REOPEN_QUEUED): State.QUEUED,
    (State.CANCELLED, Move.HOLD): State.HELD,
    (State.CANCELLED, Move.RERUN): State.RUNNING,
    (State.CANCELLED, Move.REOPEN): State.RUNNING,
    (State.CANCELLED, Move.REOPEN_QUEUED): State.QUEUED,
}

_NOT_WITH_US = frozenset({MoneyState.NONE, MoneyState.DECLINED, MoneyState.REFUNDED})
_ANY = frozenset(MoneyState)

MONEY_FOR: Mapping[Move, frozenset[MoneyState]] = {
    Move.START: _ANY,
    Move.FINISH: _ANY - {MoneyState.UNKNOWN},
    Move.DEFER: _ANY,
    Move.HOLD: _ANY,
    Move.REQUEUE: _ANY,
    Move.CANCEL: _NOT_WITH_US,
    Move.RERUN: frozenset({MoneyState.NONE}),
    Move.REOPEN: _NOT_WITH_US,
    Move.REOPEN_QUEUED: _NOT_WITH_US,
}


LEFT_BEHIND = "left behind"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on one operation.

    Attributes:
        token: proves the newest lease; grows with each lease of the whole store and is never reused.
        until: on the store's clock, seconds since the epoch.
        attempt: the caller's own mark, so that repeating `open` after a lost answer is the same win; of `take`: LEFT_BEHIND when
            the holder before has never given it back.
    """

    holder: str
    token: int
    until: float
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An irreversible call inside an operation: run once, its result kept (sealed)."""

    name: str
    generation: int
    arguments: str  # keyed hash: the same name with other arguments is a mistake
    began_at: float
    ended_at: float | None = None
    result: bytes | None = None


@dataclass(frozen=True, slots=True)
class NoticeLine:
    """One notice to the shopper: which one, of which life of the order, when it was last tried, and whether it was given."""

    kind: str
    generation: int
    at: float
    tries: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the bounded timeline: an event name, when, by whom, and figures or codes. Never personal data."""

    at: float
    event: str
    by: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)  # without slots: `changed` copies its members in one go
class Operation:
    """The record. Sealed members are opaque bytes here; the store keeps them as they are.

    Attributes:
        id: keyed hash, 64 hex digits. `reference` derives from it: short, sayable, at least 60 bits.
        claims: unique names beside the id (the purchase, the owner's current operation): at most one record holds each.
        basket: keyed hash of what is bought, when the rule names it.
        client_key: the client chose the key (a header); otherwise it was derived from what the request carries.
        kept: it may be placed and charged later: the merchant opted in and the shopper can be told.
        consent: what the shopper agreed to when it was kept.
        quote_until: how long the accepted amount holds without a look at it; wall clock.
        charged_by: `guard` when `op.charge` does it, `shop` when the shop's own code does, unseen.
        deaths: how many in a row had it and did not give it back, before a turn of it ended.
        due_at: when work is due, on the store's clock; None: nothing to do until someone comes.
        give_up_at, keep_until: the order's own end; the record's.
        request, answer, contact: sealed.
        notes_seen: how many notes the last save had folded; with more than that stored, the record is due.
        revision: counts every change of the record, so that `seize` can ask for it "as I saw it".
        version: the format; `extra` keeps members that this version does not know.
        money: the fold at the last save, for lists and counts; decisions fold again.
    """

    id: str
    namespace: str
    rule: str
    owner: str
    reference: str
    fingerprint: str
    state: State
    created_at: float
    updated_at: float
    claims: tuple[str, ...] = ()
    basket: str = ""
    client_key: bool = True
    charged_by: str = "guard"
    kept: bool = False
    consent: Consent | None = None
    quote_until: float | None = None
    asked_until: float | None = None  # its shopper goes on with it in this life: if that charges nothing, it waits for them until then
    asked_generation: int = 0  # and for which life they were given the link
    generation: int = 1
    waiting_for: WaitingFor | None = None
    why: str = ""  # the reason of the present state, a short code: "gateway_down", "order_missing", ...
    lease: Lease | None = None
    due_at: float | None = None
    attempts: int = 0
    deaths: int = 0
    give_up_at: float | None = None
    keep_until: float | None = None
    amount_minor: int | None = None
    currency: str | None = None
    sends: tuple[Send, ...] = ()
    money: MoneyState = MoneyState.NONE
    authorised_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    steps: tuple[Step, ...] = ()
    request: bytes | None = None
    answer: bytes | None = None
    answered_at: float | None = None
    session: str | None = None
    contact: bytes | None = None
    contact_hash: str | None = None
    locale: str = "en"
    history: tuple[Entry, ...] = ()
    notices: tuple[NoticeLine, ...] = ()
    notes: tuple[Note, ...] = ()
    notes_seen: int = 0
    revision: int = 0
    version: int = RECORD_VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_behind(self) -> bool:
        """Whether whoever had it before died with it, or stood still: it may be what they died of."""
        return self.lease is not None and self.lease.attempt == LEFT_BEHIND

    @property
    def cancel_asked(self) -> bool:
        """Whether the shopper (or an agent) wants this life of the operation to end."""
        return any(note.kind is NoteKind.CANCEL and note.generation in (0, self.generation) for note in self.notes)


_MEMBERS = frozenset(field.name for field in fields(Operation))


def changed(operation: Operation, **changes: Any) -> Operation:
    """`dataclasses.replace` for records at a tenth of its cost: a guarded request makes several such copies.

    Raises:
        TypeError: a record has no such member.
    """
    if not _MEMBERS.issuperset(changes):
        raise TypeError(f"an operation has no {', '.join(sorted(changes.keys() - _MEMBERS))}: see the members of `Operation`")
    copy = object.__new__(Operation)
    members = vars(copy)
    members.update(vars(operation))
    members.update(changes)
    return copy


def money_of(operation: Operation) -> Money:
    """Where the operation's money is, folded from every send and note on the record."""
    return fold(operation.sends, operation.notes, generation=operation.generation)


def ended_at(operation: Operation) -> float:
    """When its run ended for who sent it: as it was answered, or else as it was last saved."""
    return operation.answered_at or operation.updated_at


def refolded(operation: Operation, **changes: Any) -> Operation:
    """The record with its kept figures brought up to date, every note counted as seen, and *changes* beside that."""
    return changed(operation, **changes, **_figures(money_of(operation), notes=operation.notes))


def _figures(money: Money, *, notes: tuple[Note, ...]) -> dict[str, Any]:
    return {
        "money": money.state,
        "authorised_minor": money.authorised_minor,
        "captured_minor": money.captured_minor,
        "refunded_minor": money.refunded_minor,
        "notes_seen": len(notes),
    }


def move(operation: Operation, to: Move, **changes: Any) -> Operation:
    """Make one legal move, or raise and change nothing.

    Args:
        changes: other members to set with it. Reason, due time and whom it waits for do not outlive a move: they are
            cleared unless given here (held without a word: waiting for the agent).

    Raises:
        IllegalMove: the table has no such move from this state, or the money forbids it.
    """
    target = MOVES.get((operation.state, to))
    if target is None:
        raise IllegalMove(f"an operation that is {operation.state} cannot {to}: look at it again, it has moved")
    # judged with what *changes* brings along: a move may carry the answer that makes it legal, or illegal
    generation = operation.generation + (1 if to in (Move.REOPEN, Move.REOPEN_QUEUED) else 0)
    sends, notes = changes.get("sends", operation.sends), changes.get("notes", operation.notes)
    money = fold(sends, notes, generation=generation)
    if money.state not in MONEY_FOR[to]:
        raise IllegalMove(f"an operation whose money is {money.state} cannot {to}: find out, or give it back, first")
    # a held operation waits for somebody: for a person, unless the caller knows better
    waiting_for = WaitingFor.AGENT if to is Move.HOLD else None
    cleared = {"waiting_for": waiting_for, "why": "", "due_at": None}
    fixed = {"state": target, "generation": generation, **_figures(money, notes=notes)}
    return changed(operation, **{**cleared, **changes}, **fixed)


def appended(history: tuple[Entry, ...], *entries: Entry) -> tuple[Entry, ...]:
    """The timeline with *entries*; when it is full, the oldest after the first eight go."""
    longer = history + entries
    return longer if len(longer) <= HISTORY_MAX else longer[:HISTORY_HEAD] + longer[HISTORY_HEAD - HISTORY_MAX :]


def remember(operation: Operation, *entries: Entry) -> Operation:
    """The record with *entries* in its timeline."""
    return changed(operation, history=appended(operation.history, *entries))
