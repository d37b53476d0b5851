"""The rows of the memory store, and every way to find one without walking over all of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cxguard.core.operation import RECORD_VERSION, Operation, State
from cxguard.stores.base import Query, Tally
from cxguard.stores.record import ENDED, gateway_keys, matches, prune_at, ripe_at, unpaid_minor

STALE_MIN = 64  # outdated queue entries that are not worth clearing away

K = TypeVar("K")
Entry = tuple[float, int, str]  # when, the row's number, its id


class Row:
    """One record, and what the contract keeps beside it.

    Attributes:
        number: grows with each insertion: tells records of the same time apart.
        attempt: who inserted it, for a record that was opened without a lease.
        pruned: only names and money are left.
    """

    __slots__ = ("attempt", "number", "operation", "pruned")

    def __init__(self, operation: Operation, *, number: int, attempt: str) -> None:
        self.operation = operation
        self.number = number
        self.attempt = attempt
        self.pruned = False

    def copied(self) -> Row:
        """One that does not change with this one."""
        copy = Row(self.operation, number=self.number, attempt=self.attempt)
        copy.pruned = self.pruned
        return copy

    def place(self, *, due: bool) -> tuple[float, int]:
        """Where it stands in a list."""
        at = self.operation.due_at if due else self.operation.created_at
        return (0.0 if at is None else at, self.number)


class TimeQueue:
    """Rows by time. An entry whose row has changed since is skipped when met, and cleared away when there are many."""

    __slots__ = ("_entries", "_present")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._present: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, row: Row, at: float | None) -> None:
        """Say when *row* is due from now on; None takes it out."""
        id = row.operation.id
        if at is None:
            self._present.pop(id, None)
            return
        entry = (at, row.number, id)
        if self._present.get(id) == entry:
            return
        self._present[id] = entry
        heapq.heappush(self._entries, entry)
        if len(self._entries) > 2 * len(self._present) + STALE_MIN:
            self._entries = list(self._present.values())
            heapq.heapify(self._entries)

    def first(self, accept: Callable[[str], bool], *, until: float, limit: int) -> list[Entry]:
        """The first *limit* entries due by *until* whose id is accepted. They stay in the queue: put the row to move it."""
        met: list[Entry] = []
        found: list[Entry] = []
        while self._entries and self._entries[0][0] <= until and len(found) < limit:
            entry = heapq.heappop(self._entries)
            if self._present.get(entry[2]) == entry and (not met or met[-1] != entry):
                met.append(entry)
                if accept(entry[2]):
                    found.append(entry)
        for entry in met:
            heapq.heappush(self._entries, entry)
        return found


class MemoryIndex:
    """All rows: by id, by exact names, by (state, money), by when they are ripe, and by when they are forgotten."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._ripe: dict[tuple[str, str], TimeQueue] = {}
        self._due: dict[str, TimeQueue] = {}
        self._prune: dict[str, TimeQueue] = {}
        self._groups: dict[tuple[str, str, str], dict[str, Row]] = {}
        self._named: dict[tuple[str, str], dict[str, Row]] = {}
        self._unpaid: dict[tuple[str, str], int] = {}

    @property
    def queue_entries(self) -> int:
        return sum(len(queue) for queues in (self._ripe, self._due, self._prune) for queue in queues.values())

    def insert(self, row: Row) -> None:
        operation = row.operation
        self.rows[operation.id] = row
        self._add_to_lists(row)
        for name in _names(operation):
            self._named.setdefault(name, {})[operation.id] = row
        self._put_times(row, None)

    def replace(self, row: Row, operation: Operation) -> None:
        before = row.operation
        if _listing(before) != _listing(operation):
            self._drop_from_lists(row)
            row.operation = operation
            self._add_to_lists(row)
        row.operation = operation
        if _name_sources(before) != _name_sources(operation):
            self._rename(row, before)
        if before.rule != operation.rule:
            _queue(self._ripe, (before.namespace, before.rule)).put(row, None)
            _queue(self._ripe, (operation.namespace, operation.rule)).put(row, ripe_at(operation))
        self._put_times(row, before)

    def remove(self, row: Row) -> None:
        operation = row.operation
        del self.rows[operation.id]
        self._drop_from_lists(row)
        for name in _names(operation):
            self._drop_name(name, operation.id)
        _queue(self._ripe, (operation.namespace, operation.rule)).put(row, None)
        _queue(self._due, operation.namespace).put(row, None)
        _queue(self._prune, operation.namespace).put(row, None)

    def ripe(self, namespace: str, rules: Sequence[str], *, now: float, limit: int) -> list[Row]:
        """The *limit* most overdue rows of *rules*: due without a lease, or with a lapsed one."""
        queues = [self._ripe[namespace, rule] for rule in dict.fromkeys(rules) if (namespace, rule) in self._ripe]
        found = [entry for queue in queues for entry in queue.first(self._is_ours, until=now, limit=limit)]
        return [self.rows[id] for _, _, id in sorted(found)[:limit]]

    def prunable(self, namespace: str, *, now: float, limit: int) -> list[Row]:
        """Up to *limit* rows whose next stage of forgetting has come."""
        queue = self._prune.get(namespace)
        return [self.rows[id] for _, _, id in queue.first(self._is_ours, until=now, limit=limit)] if queue is not None else []

    def listed(self, query: Query, *, after: tuple[float, int] | None) -> list[Row]:
        """Rows that match, in the order of the list, from *after* on; at most one more than a page."""
        rows = [row for row in self._candidates(query) if matches(row.operation, query)]
        if query.due:
            rows = [row for row in rows if after is None or row.place(due=True) > after]
        else:
            rows = [row for row in rows if after is None or row.place(due=False) < after]
        rows.sort(key=lambda row: row.place(due=query.due), reverse=not query.due)
        return rows[: query.limit + 1]

    def tally(self, namespace: str) -> Tally:
        due = self._due.get(namespace)
        oldest = due.first(self._is_free, until=float("inf"), limit=1) if due is not None else []
        return Tally(
            operations={group[1:]: len(rows) for group, rows in self._groups.items() if group[0] == namespace and rows},
            unpaid_minor={currency: total for (space, currency), total in self._unpaid.items() if space == namespace and total},
            oldest_due_at=oldest[0][0] if oldest else None,
        )

    def _is_ours(self, id: str) -> bool:
        return self.rows[id].operation.version <= RECORD_VERSION

    def _is_free(self, id: str) -> bool:
        return self.rows[id].operation.lease is None

    def _candidates(self, query: Query) -> Iterable[Row]:
        for kind in ("reference", "gateway_key", "session", "contact_hash", "claim", "kept_by"):
            value = getattr(query, kind)
            if value is not None:
                return self._named.get((kind, value), {}).values()
        return (row for group, rows in self._groups.items() if group[0] == query.namespace for row in rows.values())

    def _put_times(self, row: Row, before: Operation | None) -> None:
        """Bring the queues up to date; most changes touch one of them."""
        operation = row.operation
        lease, due_at = (before.lease, before.due_at) if before is not None else (None, None)
        if operation.due_at != due_at:
            _queue(self._due, operation.namespace).put(row, operation.due_at)
        if operation.due_at != due_at or operation.lease is not lease:
            _queue(self._ripe, (operation.namespace, operation.rule)).put(row, ripe_at(operation))
        if operation.state in ENDED or (before is not None and before.state in ENDED):
            _queue(self._prune, operation.namespace).put(row, prune_at(operation, pruned=row.pruned))

    def _add_to_lists(self, row: Row) -> None:
        operation = row.operation
        self._groups.setdefault((operation.namespace, operation.state, operation.money), {})[operation.id] = row
        self._count_unpaid(operation, unpaid_minor(operation))

    def _drop_from_lists(self, row: Row) -> None:
        operation = row.operation
        del self._groups[operation.namespace, operation.state, operation.money][operation.id]
        self._count_unpaid(operation, -unpaid_minor(operation))

    def _count_unpaid(self, operation: Operation, amount_minor: int) -> None:
        if amount_minor and operation.currency is not None:
            counter = (operation.namespace, operation.currency)
            self._unpaid[counter] = self._unpaid.get(counter, 0) + amount_minor

    def _rename(self, row: Row, before: Operation) -> None:
        old, new = set(_names(before)), set(_names(row.operation))
        for name in old - new:
            self._drop_name(name, before.id)
        for name in new - old:
            self._named.setdefault(name, {})[before.id] = row

    def _drop_name(self, name: tuple[str, str], id: str) -> None:
        holders = self._named[name]
        del holders[id]
        if not holders:
            del self._named[name]


def _queue(queues: dict[K, TimeQueue], key: K) -> TimeQueue:
    queue = queues.get(key)
    if queue is None:
        queue = queues[key] = TimeQueue()
    return queue


def _listing(operation: Operation) -> tuple[object, ...]:
    """What the lists and counters are made of."""
    return (operation.state, operation.money, operation.amount_minor, operation.currency)


def _name_sources(operation: Operation) -> tuple[object, ...]:
    """What the exact names come from: while these are the same, so are the names."""
    names = (operation.reference, operation.session, operation.contact_hash, operation.claims, _kept_by(operation))
    return (*names, len(operation.sends), len(operation.notes))


def _kept_by(operation: Operation) -> str:
    return operation.owner if operation.state is State.QUEUED else ""


def _names(operation: Operation) -> list[tuple[str, str]]:
    names = [("reference", operation.reference)] if operation.reference else []
    if operation.session is not None:
        names.append(("session", operation.session))
    if operation.contact_hash is not None:
        names.append(("contact_hash", operation.contact_hash))
    if kept_by := _kept_by(operation):
        names.append(("kept_by", kept_by))
    if operation.claims:
        names += [("claim", claim) for claim in operation.claims]
    if operation.sends or operation.notes:
        names += [("gateway_key", key) for key in gateway_keys(operation)]
    return names
