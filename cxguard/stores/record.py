"""What every store does with a record, whatever it keeps it in. Pure: a clock's reading comes in as an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cxguard.core.money import MoneyState, Note, NoteKind, fold
from cxguard.core.names import reference_of
from cxguard.core.operation import LEFT_BEHIND, RECORD_VERSION, Lease, Operation, State, WaitingFor, changed
from cxguard.core.schedule import BACKOFF_SECONDS_MAX
from cxguard.stores.base import LEASE_SECONDS_MAX, LEASE_SECONDS_MIN, PAGE_MAX, TAKE_MAX, Query

NAMES_KEPT_SECONDS = 400 * 86_400.0  # names and money outlive the rest of a record by this: longer than a dispute takes
BATCH_IDS_KEPT_SECONDS = 2 * 3600.0  # the contract asks for an hour
SESSIONS_KEPT_SECONDS = 400 * 86_400  # a visit is a visitor's day; the last word on one comes days later, a report's window is months
SESSIONS_FORGOTTEN_MAX = 100  # sessions that one batch clears away: more than come with it, and not so many that it is slow
PRUNE_MAX = 1000  # records in one `prune`: it holds up no other write for long
SET_BACK_SECONDS_MAX = 86_400.0  # by more no clock is put right: one that begins years ago is still to be set
CLOCK_STEP_SECONDS = 1.0  # readings of one clock, written down one after the other: one that is earlier by more was set back
ENDED = frozenset({State.FINISHED, State.CANCELLED})


def ripe_at(operation: Operation) -> float | None:
    """When `take` may have it: when its lease lapses, or without one when it is due."""
    return operation.due_at if operation.lease is None else operation.lease.until


def leased(operation: Operation, *, now: float) -> bool:
    return operation.lease is not None and operation.lease.until > now


def leasable(operation: Operation, *, now: float) -> bool:
    """Whether anybody may be given it: no live lease, and written by no newer cxguard."""
    return operation.version <= RECORD_VERSION and not leased(operation, now=now)


def set_back_seconds(*, read_at: float, now: float) -> float:
    """By how much the store's clock was set back since it was *read_at*: leases that were live then end so much earlier.

    What was left of each stays left, so that nobody is given what a living holder has; but that of a dead one does not last
    until an hour has come that was never there. Nor does an order wait for that hour: one that would be due in it, or a pause
    of the queue's later, is due so much earlier. Too early is no harm: whoever takes it looks at what there is to do.
    """
    seconds = read_at - now
    return seconds if seconds > CLOCK_STEP_SECONDS else 0.0


def back_until(*, read_at: float, now: float) -> float:
    """Up to which due time orders go back with the clock. None does when a machine that was off, and keeps no time, begins years
    ago: for how long it was off nobody knows, and the order's own end may have come meanwhile."""
    return read_at + BACKOFF_SECONDS_MAX if read_at - now <= SET_BACK_SECONDS_MAX else now


def brought_back(operation: Operation, *, read_at: float, now: float) -> Operation:
    """The record after its store's clock was set back; the same one, if nothing of it goes back."""
    seconds, lease, due_at = read_at - now, operation.lease, operation.due_at
    if lease is not None:
        return changed(operation, lease=replace(lease, until=lease.until - seconds)) if lease.until > read_at else operation
    if due_at is not None and now < due_at <= back_until(read_at=read_at, now=now):
        return changed(operation, due_at=due_at - seconds)
    return operation


def is_same_win(operation: Operation, attempt: str) -> bool:
    """Whether the lease on the record came from this very attempt, whose answer was lost."""
    return bool(attempt) and operation.lease is not None and operation.lease.attempt == attempt


def due_with_notes(operation: Operation, *, notes: int, now: float) -> float | None:
    """The due time of a record whose lease ends: at once, when facts came in that its holder had not folded."""
    if notes <= operation.notes_seen:
        return operation.due_at
    return due_by(operation.due_at, now)


def due_by(due_at: float | None, now: float) -> float:
    return now if due_at is None else min(due_at, now)


def unpaid_minor(operation: Operation) -> int:
    """What the record adds to the sum of accepted orders that nobody has paid yet."""
    if operation.state is not State.QUEUED or operation.money is not MoneyState.NONE or operation.currency is None:
        return 0
    return operation.amount_minor or 0


def gateway_keys(operation: Operation) -> frozenset[str]:
    """Every gateway key that the record knows of, sent by us or told by a note."""
    told = {note.gateway_key for note in operation.notes if note.gateway_key}
    return frozenset({send.key for send in operation.sends} | told)


def stub(id: str, note: Note, *, namespace: str, now: float, due_at: float) -> Operation:
    """A record for a fact about an operation that nobody has opened yet (or whose record was lost)."""
    money = fold((), (note,), generation=1)
    return Operation(
        id=id,
        namespace=namespace,
        rule="",
        owner="",
        reference=derived_reference(id),
        fingerprint="",
        state=State.HELD,
        waiting_for=WaitingFor.AGENT,
        why="unknown_operation",
        created_at=now,
        updated_at=now,
        due_at=due_at,
        money=money.state,
        authorised_minor=money.authorised_minor,
        captured_minor=money.captured_minor,
        refunded_minor=money.refunded_minor,
        notes=(note,),
    )


def derived_reference(id: str) -> str:
    """The reference, so that the desk finds the stub by what the shopper says; none for an id that is not one of ours."""
    try:
        return reference_of(id)
    except ValueError:
        return ""


def prune_at(operation: Operation, *, pruned: bool) -> float | None:
    """When the record's next stage of forgetting comes; None while anything about it may still be worked on."""
    open_ends = operation.due_at is not None or operation.lease is not None or len(operation.notes) > operation.notes_seen
    if operation.state not in ENDED or operation.keep_until is None or open_ends:
        return None
    return operation.keep_until + (NAMES_KEPT_SECONDS if pruned else 0.0)


def pruned(operation: Operation) -> Operation:
    """Names and money only. Sends and outcomes stay: without them a charge would fold to "not charged"."""
    notes = tuple(note for note in operation.notes if note.kind is NoteKind.OUTCOME)
    return changed(
        operation,
        claims=(),
        steps=(),
        request=None,
        answer=None,
        session=None,
        contact=None,
        contact_hash=None,
        history=(),
        notes=notes,
        notes_seen=len(notes),
    )


def matches(operation: Operation, query: Query) -> bool:
    """Whether the record is what *query* asks for, apart from its order and pages."""
    exact = (
        (query.reference, operation.reference),
        (query.contact_hash, operation.contact_hash),
        (query.session, operation.session),
        (query.rule, operation.rule),
    )
    return (
        operation.namespace == query.namespace
        and all(wanted is None or wanted == found for wanted, found in exact)
        and (query.states is None or operation.state in query.states)
        and (query.money is None or operation.money in query.money)
        and (query.gateway_key is None or query.gateway_key in gateway_keys(operation))
        and (query.claim is None or query.claim in operation.claims)
        and (query.kept_by is None or (operation.state is State.QUEUED and operation.owner == query.kept_by))
        and (not query.due or operation.due_at is not None)
    )


def cursor_text(time: float, number: int) -> str:
    """The place in a list after a record: its time, and a number that tells records of the same time apart."""
    return f"{time!r}:{number}"


def cursor_place(cursor: str) -> tuple[float, int]:
    """Read what `cursor_text` wrote.

    Raises:
        ValueError: it is not a cursor.
    """
    time, _, number = cursor.partition(":")
    try:
        return float(time), int(number)
    except ValueError:
        raise ValueError("that is not a cursor: pass the `cursor` of the last page, unchanged") from None


def take_mark(before: Lease | None) -> str:
    """The mark of a lease that `take` gives out, by the one that it follows."""
    return LEFT_BEHIND if before is not None else ""


def new_lease(holder: str, *, token: int, now: float, lease_seconds: float, attempt: str = "") -> Lease:
    return Lease(holder=holder, token=token, until=now + lease_seconds, attempt=attempt)


def check_lease_seconds(lease_seconds: float) -> None:
    if not LEASE_SECONDS_MIN <= lease_seconds <= LEASE_SECONDS_MAX:
        raise ValueError(f"lease_seconds is {lease_seconds}: give {LEASE_SECONDS_MIN:g} to {LEASE_SECONDS_MAX:g}")


def check_limit(limit: int, *, limit_max: int) -> None:
    if not 1 <= limit <= limit_max:
        raise ValueError(f"limit is {limit}: give 1 to {limit_max}")


def check_take(rules: Sequence[str], *, lease_seconds: float, limit: int) -> None:
    if isinstance(rules, str):
        raise ValueError(f"rules is one string: give a list, [{rules!r}]")
    check_lease_seconds(lease_seconds)
    check_limit(limit, limit_max=TAKE_MAX)


def check_query(query: Query) -> tuple[float, int] | None:
    """Refuse what cannot be asked; return the place after which the page begins."""
    check_limit(query.limit, limit_max=PAGE_MAX)
    return cursor_place(query.after) if query.after is not None else None
