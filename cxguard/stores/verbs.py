"""The writing verbs over rows that are in hand: what each changes, the same for every store that loads before it writes.

A store loads the rows that its verbs name, lets the verbs work on them, and writes what has changed in one commit. Every
verb reads and decides first and writes last: a refusal has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from cxguard.core.money import Note
from cxguard.core.operation import Operation, changed
from cxguard.errors import LeaseLost
from cxguard.stores.base import Match, Opened, Seen
from cxguard.stores.record import due_by, due_with_notes, is_same_win, leasable, leased, new_lease, pruned, stub, take_mark


class Row(Protocol):
    """One record in hand, and what the contract keeps beside it.

    Attributes:
        attempt: who inserted it, for a record that was opened without a lease.
        pruned: only names and money are left.
    """

    operation: Operation
    attempt: str
    pruned: bool


R = TypeVar("R", bound=Row)


class Table(Protocol[R]):
    """What the verbs work on. Alive for one step that nobody interrupts."""

    @property
    def now(self) -> float:
        """The store's clock, the same for the whole step."""
        ...

    def row(self, id: str) -> R | None: ...

    def insert(self, operation: Operation, *, attempt: str) -> None: ...

    def replace(self, row: R, operation: Operation) -> None: ...

    def remove(self, row: R) -> None: ...

    def claim_holder(self, claim: str) -> str | None: ...

    def set_claim(self, claim: str, id: str | None) -> None:
        """Give the claim to a record, or free it."""
        ...

    def number(self) -> int:
        """The next lease token or revision: one sequence for both, so that neither ever comes twice."""
        ...

    def check_room(self) -> None:
        """Refuse a new record while the store is full.

        Raises:
            StoreUnavailable: it is.
        """
        ...


def open_operation(
    table: Table[R], operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen]
) -> Opened:
    row = table.row(operation.id)
    if row is not None:
        return _opened_before(table, row, attempt=attempt, lease_seconds=lease_seconds)
    taken = _taken_claim(table, operation.id, operation.claims, superseding)
    if taken is not None:
        return _claimed(table, taken)
    table.check_room()
    lease = None
    if lease_seconds is not None:
        lease = new_lease(holder, token=table.number(), now=table.now, lease_seconds=lease_seconds, attempt=attempt)
    for claim in operation.claims:
        _move_claim(table, claim, operation.id)
    inserted = changed(operation, lease=lease, revision=table.number(), notes=(), updated_at=table.now)
    table.insert(inserted, attempt=attempt)
    return Opened(True, inserted, lease is not None, Match.NEW, table.now)


def save_operation(table: Table[R], operation: Operation, *, token: int, keep_lease: bool, gone: bool) -> Operation:
    row = table.row(operation.id)
    if row is None or row.operation.lease is None or row.operation.lease.token != token:
        raise LeaseLost("somebody else holds this operation now: read it again and act on what you find")
    stored = row.operation
    if gone and len(stored.notes) <= operation.notes_seen:
        remove_row(table, row)
        return changed(operation, lease=None, notes=stored.notes)
    due_at = operation.due_at if keep_lease else due_with_notes(operation, notes=len(stored.notes), now=table.now)
    saved = changed(
        operation,
        lease=stored.lease if keep_lease else None,
        due_at=due_at,
        notes=stored.notes,
        claims=_kept_claims(table, operation, stored=stored),
        revision=table.number(),
        updated_at=table.now,
    )
    row.pruned = False
    table.replace(row, saved)
    return saved


def take_rows(table: Table[R], rows: Iterable[R], *, holder: str, lease_seconds: float) -> tuple[Operation, ...]:
    """Lease rows that the store found to be ripe."""
    return tuple(_lease(table, row, holder=holder, attempt=take_mark(row.operation.lease), lease_seconds=lease_seconds) for row in rows)


def seize_operation(
    table: Table[R],
    seen: Seen,
    *,
    holder: str,
    attempt: str,
    lease_seconds: float,
    claims: Sequence[str],
    superseding: Sequence[Seen],
) -> Opened:
    row = table.row(seen.id)
    if row is None:
        raise KeyError(seen.id)
    if is_same_win(row.operation, attempt):
        return Opened(True, _renewed(table, row, lease_seconds=lease_seconds), True, Match.ID, table.now)
    if row.operation.revision != seen.revision or not leasable(row.operation, now=table.now):
        return Opened(False, row.operation, leased(row.operation, now=table.now), Match.ID, table.now)
    taken = _taken_claim(table, seen.id, claims, superseding)
    if taken is not None:
        return _claimed(table, taken)
    for claim in claims:
        _move_claim(table, claim, seen.id)
    if claims:
        table.replace(row, changed(row.operation, claims=tuple(dict.fromkeys((*row.operation.claims, *claims)))))
    won = _lease(table, row, holder=holder, attempt=attempt, lease_seconds=lease_seconds)
    return Opened(True, won, True, Match.ID, table.now)


def renew_leases(table: Table[R], tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
    lost = set()
    for id, token in tokens.items():
        row = table.row(id)
        if row is None or row.operation.lease is None or row.operation.lease.token != token:
            lost.add(id)
        else:
            _renewed(table, row, lease_seconds=lease_seconds)
    return frozenset(lost)


def note_operation(table: Table[R], id: str, *, note: Note, namespace: str, stub_due_seconds: float) -> Operation:
    row = table.row(id)
    if row is None:
        table.check_room()
        made = stub(id, note, namespace=namespace, now=table.now, due_at=table.now + stub_due_seconds)
        made = changed(made, revision=table.number())
        table.insert(made, attempt="")
        return made
    known = row.operation
    if any(each.event_id == note.event_id for each in known.notes):
        return known
    due_at = due_by(known.due_at, table.now)
    noted = changed(known, notes=(*known.notes, note), due_at=due_at, revision=table.number(), updated_at=table.now)
    table.replace(row, noted)
    return noted


def put_operation(table: Table[R], operation: Operation, *, replacing: Seen | None, superseding: Sequence[Seen]) -> Opened:
    row = table.row(operation.id)
    if row is not None and (Seen(operation.id, row.operation.revision) != replacing or leased(row.operation, now=table.now)):
        return Opened(False, row.operation, leased(row.operation, now=table.now), Match.ID, table.now)
    taken = _taken_claim(table, operation.id, operation.claims, superseding)
    if taken is not None:
        return _claimed(table, taken)
    if row is None:
        table.check_room()
    else:
        remove_row(table, row)
    for claim in operation.claims:
        _move_claim(table, claim, operation.id)
    whole = changed(operation, lease=None, revision=table.number())
    table.insert(whole, attempt="")
    return Opened(True, whole, False, Match.NEW, table.now)


def prune_row(table: Table[R], row: R) -> None:
    """The row's next stage of forgetting."""
    if row.pruned:
        remove_row(table, row)
        return
    _free_claims(table, row.operation)
    row.pruned = True
    table.replace(row, changed(pruned(row.operation), revision=table.number()))


def remove_row(table: Table[R], row: R) -> None:
    """The record goes, and its names are free."""
    _free_claims(table, row.operation)
    table.remove(row)


def _opened_before(table: Table[R], row: R, *, attempt: str, lease_seconds: float | None) -> Opened:
    found, now = row.operation, table.now
    if lease_seconds is not None and is_same_win(found, attempt):
        return Opened(True, _renewed(table, row, lease_seconds=lease_seconds), True, Match.NEW, now)
    if lease_seconds is None and attempt and row.attempt == attempt:
        return Opened(True, found, leased(found, now=now), Match.NEW, now)
    return Opened(False, found, leased(found, now=now), Match.ID, now)


def _claimed(table: Table[R], claim: str) -> Opened:
    found = _holder(table, claim).operation
    return Opened(False, found, leased(found, now=table.now), Match.CLAIM, table.now, claim)


def _holder(table: Table[R], claim: str) -> R:
    row = table.row(table.claim_holder(claim) or "")
    assert row is not None, "a claim and the record that holds it go together"
    return row


def _taken_claim(table: Table[R], id: str, claims: Sequence[str], superseding: Sequence[Seen]) -> str | None:
    """The first of *claims* that another record holds and that may not be taken from it."""
    for claim in claims:
        other = table.claim_holder(claim)
        if other is None or other == id:
            continue
        if Seen(other, _holder(table, claim).operation.revision) not in superseding:
            return claim
    return None


def _move_claim(table: Table[R], claim: str, id: str) -> None:
    other = table.claim_holder(claim)
    if other is not None and other != id:
        row = _holder(table, claim)
        left = tuple(each for each in row.operation.claims if each != claim)
        table.replace(row, changed(row.operation, claims=left, revision=table.number()))
    table.set_claim(claim, id)


def _kept_claims(table: Table[R], operation: Operation, *, stored: Operation) -> tuple[str, ...]:
    """A save may give claims up, never take them: those that went to another record stay there."""
    for claim in stored.claims:
        if claim not in operation.claims:
            table.set_claim(claim, None)
    return tuple(claim for claim in operation.claims if claim in stored.claims)


def _free_claims(table: Table[R], operation: Operation) -> None:
    for claim in operation.claims:
        table.set_claim(claim, None)


def _lease(table: Table[R], row: R, *, holder: str, attempt: str, lease_seconds: float) -> Operation:
    lease = new_lease(holder, token=table.number(), now=table.now, lease_seconds=lease_seconds, attempt=attempt)
    table.replace(row, changed(row.operation, lease=lease, revision=table.number(), updated_at=table.now))
    return row.operation


def _renewed(table: Table[R], row: R, *, lease_seconds: float) -> Operation:
    lease = row.operation.lease
    assert lease is not None, "only called for a record with a lease"
    table.replace(row, changed(row.operation, lease=replace(lease, until=table.now + lease_seconds)))
    return row.operation
