"""The rows of one batch, locked and loaded; what its jobs change is gathered here and written in one go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from cxguard.core.operation import Operation, changed
from cxguard.stores.codec import encode_note
from cxguard.stores.postgres.rows import (
    StoredRow,
    Values,
    counts,
    insert_values,
    lease_values,
    sealed_values,
    stored_row,
    update_values,
)
from cxguard.stores.record import gateway_keys

Write = tuple[str, Values]  # a statement's name, and its values
Counter = tuple[str, str, str, str]  # namespace, kind, first, second


class WorkingSet:
    """A `Table` (see `cxguard.stores.verbs`) over the rows that a batch has locked.

    Args:
        now: the store's clock.
        numbers: as many as the batch can need.
    """

    def __init__(self, *, now: float, numbers: Iterable[int]) -> None:
        self.now = now
        self._numbers = iter(numbers)
        self._rows: dict[str, StoredRow] = {}
        self._claims: dict[str, str] = {}
        self._claims_before: dict[str, str] = {}

    def add(self, row: Values) -> StoredRow:
        """A row that was read and locked; one that is here already stays as it is."""
        return self._rows.setdefault(row[1], stored_row(row))

    def add_known(self, operation: Operation) -> None:
        """A record as we believe it to be."""
        self._rows[operation.id] = StoredRow(operation, "", False, before=operation)

    def holds(self, id: str) -> bool:
        """Whether that record is among those that were read."""
        return id in self._rows

    def changed_rows(self) -> Iterator[StoredRow]:
        """The rows that have to be written."""
        return (row for _, row in sorted(self._rows.items()) if row.gone or row.operation is not row.before)

    def add_claim(self, claim: str, id: str) -> None:
        self._claims[claim] = self._claims_before[claim] = id

    def row(self, id: str) -> StoredRow | None:
        row = self._rows.get(id)
        return None if row is None or row.gone else row

    def insert(self, operation: Operation, *, attempt: str) -> None:
        before = self._rows.get(operation.id)  # removed a moment ago by another job of this batch
        if before is None or before.before is None:
            self._rows[operation.id] = StoredRow(operation, attempt, False)
        else:
            self._rows[operation.id] = StoredRow(operation, attempt, False, before=before.before, keys=before.keys, anew=True)

    def replace(self, row: StoredRow, operation: Operation) -> None:
        row.operation = operation

    def remove(self, row: StoredRow) -> None:
        self._rows[row.operation.id].gone = True

    def claim_holder(self, claim: str) -> str | None:
        return self._claims.get(claim)

    def set_claim(self, claim: str, id: str | None) -> None:
        if id is None:
            self._claims.pop(claim, None)
        else:
            self._claims[claim] = id

    def number(self) -> int:
        return next(self._numbers)

    def check_room(self) -> None:
        """The server says by itself when it is full."""

    def writes(self, *, slot: int) -> Iterator[Write]:
        """What has to be sent, in an order in which no unique name is taken twice.

        Args:
            slot: which of the counters' slots is ours.
        """
        tallies: defaultdict[Counter, int] = defaultdict(int)
        yield from self._claim_writes()
        for row in self.changed_rows():
            yield from _row_writes(row)
            for place, by in counts(row.before, None if row.gone else row.operation):
                tallies[row.operation.namespace, *place] += by
        for counter, total in sorted(tallies.items()):
            if total:
                yield "add_tally", (*counter, slot, total)

    def _claim_writes(self) -> Iterator[Write]:
        # a record's claims that were not asked for by name are known from the record itself
        held = {claim: id for id, row in self._rows.items() if row.before is not None for claim in row.before.claims}
        before = {**held, **self._claims_before}
        for row in self._rows.values():
            if not row.gone:
                for claim in row.operation.claims:
                    self._claims.setdefault(claim, row.operation.id)
        for claim in sorted(before.keys() | self._claims.keys()):
            old, new = before.get(claim), self._claims.get(claim)
            if old is None and new is not None:
                yield "add_claim", (claim, new)
            elif old is not None and new is None:
                yield "free_claim", (claim,)
            elif old != new:
                yield "move_claim", (new, claim)


def _row_writes(row: StoredRow) -> Iterator[Write]:
    operation, before = row.operation, row.before
    if row.gone:
        if before is not None:
            yield from _delete(before.id, row.keys)
        return
    keys = gateway_keys(operation)
    if before is None:
        yield "insert", insert_values(operation, attempt=row.attempt)
    elif row.anew:
        yield from _delete(before.id, row.keys)
        yield "insert", insert_values(operation, attempt=row.attempt)
        before, row.keys = None, frozenset()
    elif _is_light(operation, before):
        yield "update_lease", lease_values(operation, pruned=row.pruned)
    else:
        yield "update", update_values(operation, pruned=row.pruned)
        if sealed_values(operation) != sealed_values(before):
            yield "update_sealed", (*sealed_values(operation), operation.id)
    yield from _note_writes(operation, before)
    for key in sorted(keys - row.keys):
        yield "add_gateway_key", (key, operation.id)
    for key in sorted(row.keys - keys):
        yield "drop_gateway_key", (key, operation.id)


def _delete(id: str, keys: frozenset[str]) -> Iterator[Write]:
    for key in sorted(keys):
        yield "drop_gateway_key", (key, id)
    yield "delete_notes", (id,)
    yield "delete", (id,)


def _note_writes(operation: Operation, before: Operation | None) -> Iterator[Write]:
    known = before.notes if before is not None else ()
    if operation.notes[: len(known)] != known:  # some were forgotten
        yield "delete_notes", (operation.id,)
        known = ()
    for number, note in enumerate(operation.notes[len(known) :], start=len(known) + 1):
        yield "add_note", (operation.id, number, note.event_id, encode_note(note))


def _is_light(operation: Operation, before: Operation) -> bool:
    """Whether only lease, times, notes or claims differ: then the body is not written again."""
    same = changed(
        operation,
        lease=before.lease,
        due_at=before.due_at,
        notes=before.notes,
        claims=before.claims,
        revision=before.revision,
        updated_at=before.updated_at,
    )
    return same == before
