"""The store for tests and for trying things out: fast, exact, and gone with the process.

Every verb runs from start to end under a lock, without giving way to another task: that is its atomic step. The lock
is for the other threads of the process: the heartbeat has one, and so has code that is not async.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from cxguard.clock import Clock
from cxguard.core.money import Note
from cxguard.core.operation import Lease, Operation, changed
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import Level, Match, Opened, Page, Query, Seen, SessionBatch, SessionRow, Tally, Versioned
from cxguard.stores.memory_index import MemoryIndex, Row
from cxguard.stores.record import (
    BATCH_IDS_KEPT_SECONDS,
    PRUNE_MAX,
    check_lease_seconds,
    check_limit,
    check_query,
    check_take,
    cursor_text,
    due_by,
    due_with_notes,
    is_same_win,
    leasable,
    leased,
    new_lease,
    pruned,
    stub,
)

P = ParamSpec("P")
T = TypeVar("T")

OPERATIONS_MAX = 100_000  # records; about 300 MB of full ones: a test that needs more has lost its way


def _verb(step: Callable[Concatenate[MemoryStore, P], T]) -> Callable[Concatenate[MemoryStore, P], Coroutine[Any, Any, T]]:
    """Make a verb of one step that nobody can interrupt, from whichever thread or event loop it is asked."""

    async def verb(self: MemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return step(self, *args, **kwargs)

    verb.__name__, verb.__qualname__ = step.__name__, step.__qualname__
    return verb


class MemoryStore:
    """A store in the process's own memory. See `cxguard.stores.base.Store` for what each verb promises.

    Args:
        operations_max: records it holds before it refuses new ones, as a full disk would.
    """

    level = Level.MEMORY

    def __init__(self, *, clock: Clock, operations_max: int = OPERATIONS_MAX) -> None:
        self.epoch = uuid.uuid4().hex
        self._lock = threading.Lock()  # held for a step, never across an await
        self._clock = clock
        self._operations_max = operations_max
        self._index = MemoryIndex()
        self._claims: dict[str, str] = {}
        self._last_number = 0
        self._small: dict[str, Versioned] = {}
        self._sessions: dict[str, SessionRow] = {}
        self._counters: dict[str, float] = {}
        self._batches: dict[str, float] = {}

    @property
    def queue_entries(self) -> int:
        """How many entries its queues hold, outdated ones included: for watching that they do not pile up."""
        return self._index.queue_entries

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close; what it holds stays readable."""

    @_verb
    def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        if lease_seconds is not None:
            check_lease_seconds(lease_seconds)
        now = self._clock.now()
        row = self._index.rows.get(operation.id)
        if row is not None:
            return self._opened_before(row, attempt=attempt, lease_seconds=lease_seconds, now=now)
        taken = self._taken_claim(operation.id, operation.claims, superseding) if operation.claims else None
        if taken is not None:
            return self._claimed(taken, now=now)
        self._check_room()
        lease = None
        if lease_seconds is not None:
            lease = Lease(holder, self._number(), now + lease_seconds, attempt)
        for claim in operation.claims:
            self._move_claim(claim, operation.id)
        inserted = changed(operation, lease=lease, revision=self._number(), notes=(), updated_at=now)
        self._index.insert(Row(inserted, number=inserted.revision, attempt=attempt))
        return Opened(True, inserted, lease is not None, Match.NEW, now)

    @_verb
    def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        row = self._index.rows.get(operation.id)
        if row is None or row.operation.lease is None or row.operation.lease.token != token:
            raise LeaseLost("somebody else holds this operation now: read it again and act on what you find")
        stored = row.operation
        now = self._clock.now()
        if gone and len(stored.notes) <= operation.notes_seen:
            self._remove(row)
            return changed(operation, lease=None, notes=stored.notes)
        due_at = operation.due_at if keep_lease else due_with_notes(operation, notes=len(stored.notes), now=now)
        claims = operation.claims
        if claims or stored.claims:
            claims = self._kept_claims(operation)
        saved = changed(
            operation,
            lease=stored.lease if keep_lease else None,
            due_at=due_at,
            notes=stored.notes,
            claims=claims,
            revision=self._number(),
            updated_at=now,
        )
        row.pruned = False
        self._index.replace(row, saved)
        return saved

    @_verb
    def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        check_take(rules, lease_seconds=lease_seconds, limit=limit)
        now = self._clock.now()
        ripe = self._index.ripe(namespace, rules, now=now, limit=limit)
        return tuple(self._lease(row, holder=holder, attempt="", lease_seconds=lease_seconds, now=now) for row in ripe)

    @_verb
    def seize(
        self,
        seen: Seen,
        *,
        holder: str,
        attempt: str,
        lease_seconds: float,
        claims: Sequence[str] = (),
        superseding: Sequence[Seen] = (),
    ) -> Opened:
        check_lease_seconds(lease_seconds)
        row = self._index.rows.get(seen.id)
        if row is None:
            raise KeyError(seen.id)
        now = self._clock.now()
        if is_same_win(row.operation, attempt):
            return Opened(True, self._renewed(row, now=now, lease_seconds=lease_seconds), True, Match.ID, now)
        if row.operation.revision != seen.revision or not leasable(row.operation, now=now):
            return Opened(False, row.operation, leased(row.operation, now=now), Match.ID, now)
        taken = self._taken_claim(seen.id, claims, superseding)
        if taken is not None:
            return self._claimed(taken, now=now)
        for claim in claims:
            self._move_claim(claim, seen.id)
        if claims:
            held = dict.fromkeys((*row.operation.claims, *claims))
            self._index.replace(row, changed(row.operation, claims=tuple(held)))
        won = self._lease(row, holder=holder, attempt=attempt, lease_seconds=lease_seconds, now=now)
        return Opened(True, won, True, Match.ID, now)

    @_verb
    def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        check_lease_seconds(lease_seconds)
        now = self._clock.now()
        lost = set()
        for id, token in tokens.items():
            row = self._index.rows.get(id)
            if row is None or row.operation.lease is None or row.operation.lease.token != token:
                lost.add(id)
            else:
                self._renewed(row, now=now, lease_seconds=lease_seconds)
        return frozenset(lost)

    @_verb
    def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        now = self._clock.now()
        row = self._index.rows.get(id)
        if row is None:
            self._check_room()
            made = changed(stub(id, note, namespace=namespace, now=now, due_at=now + stub_due_seconds), revision=self._number())
            self._index.insert(Row(made, number=made.revision, attempt=""))
            return made
        known = row.operation
        if any(each.event_id == note.event_id for each in known.notes):
            return known
        noted = changed(known, notes=(*known.notes, note), due_at=due_by(known.due_at, now), revision=self._number(), updated_at=now)
        self._index.replace(row, noted)
        return noted

    @_verb
    def get(self, id: str) -> Operation | None:
        row = self._index.rows.get(id)
        return row.operation if row is not None else None

    @_verb
    def search(self, query: Query) -> Page:
        after = check_query(query)
        rows = self._index.listed(query, after=after)
        page = rows[: query.limit]
        more = len(rows) > len(page)
        return Page(tuple(row.operation for row in page), cursor_text(*page[-1].place(due=query.due)) if more else None)

    @_verb
    def tally(self, namespace: str) -> Tally:
        return self._index.tally(namespace)

    @_verb
    def prune(self, *, namespace: str, limit: int) -> int:
        check_limit(limit, limit_max=PRUNE_MAX)
        due = self._index.prunable(namespace, now=self._clock.now(), limit=limit)
        for row in due:
            self._prune(row)
        return len(due)

    @_verb
    def load(self, key: str) -> Versioned:
        return self._small.get(key, Versioned(0, b""))

    @_verb
    def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        if self._small.get(key, Versioned(0, b"")).revision != revision:
            return False
        self._small[key] = Versioned(revision + 1, value)
        return True

    @_verb
    def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        return {id: self._sessions[id] for id in ids if id in self._sessions}

    @_verb
    def record(self, batch: SessionBatch) -> bool:
        now = self._clock.now()
        if batch.id in self._batches:
            return True
        known = self._sessions
        if any(row.revision != (known[row.id].revision if row.id in known else 0) for row in batch.rows):
            return False
        for row in batch.rows:
            self._sessions[row.id] = replace(row, revision=row.revision + 1)
        for name, amount in batch.counters.items():
            self._counters[name] = self._counters.get(name, 0) + amount
        self._batches = {id: at for id, at in self._batches.items() if at > now - BATCH_IDS_KEPT_SECONDS} | {batch.id: now}
        return True

    @_verb
    def counters(self, prefix: str) -> Mapping[str, float]:
        return {name: amount for name, amount in self._counters.items() if name.startswith(prefix)}

    async def clock(self) -> float:
        return self._clock.now()

    def _number(self) -> int:
        """The next lease token or revision: one sequence for both, so that neither ever comes twice."""
        self._last_number += 1
        return self._last_number

    def _check_room(self) -> None:
        if len(self._index.rows) >= self._operations_max:
            raise StoreUnavailable(
                f'the memory store is full ({self._operations_max} operations): use a file, "sqlite:///shop.db", or raise operations_max'
            )

    def _opened_before(self, row: Row, *, attempt: str, lease_seconds: float | None, now: float) -> Opened:
        found = row.operation
        if lease_seconds is not None and is_same_win(found, attempt):
            return Opened(True, self._renewed(row, now=now, lease_seconds=lease_seconds), True, Match.NEW, now)
        if lease_seconds is None and attempt and row.attempt == attempt:
            return Opened(True, found, leased(found, now=now), Match.NEW, now)
        return Opened(False, found, leased(found, now=now), Match.ID, now)

    def _claimed(self, claim: str, *, now: float) -> Opened:
        found = self._index.rows[self._claims[claim]].operation
        return Opened(False, found, leased(found, now=now), Match.CLAIM, now, claim)

    def _taken_claim(self, id: str, claims: Sequence[str], superseding: Sequence[Seen]) -> str | None:
        """The first of *claims* that another record holds and that may not be taken from it."""
        for claim in claims:
            other = self._claims.get(claim)
            if other is None or other == id:
                continue
            if Seen(other, self._index.rows[other].operation.revision) not in superseding:
                return claim
        return None

    def _move_claim(self, claim: str, id: str) -> None:
        other = self._claims.get(claim)
        self._claims[claim] = id
        if other is not None and other != id:
            row = self._index.rows[other]
            left = tuple(each for each in row.operation.claims if each != claim)
            self._index.replace(row, changed(row.operation, claims=left, revision=self._number()))

    def _kept_claims(self, operation: Operation) -> tuple[str, ...]:
        """A save may give claims up, never take them: those that went to another record stay there."""
        kept = tuple(claim for claim in operation.claims if self._claims.get(claim) == operation.id)
        self._free_claims(self._index.rows[operation.id].operation, but=kept)
        return kept

    def _free_claims(self, operation: Operation, *, but: Sequence[str] = ()) -> None:
        for claim in operation.claims:
            if claim not in but:
                del self._claims[claim]

    def _lease(self, row: Row, *, holder: str, attempt: str, lease_seconds: float, now: float) -> Operation:
        lease = new_lease(holder, token=self._number(), now=now, lease_seconds=lease_seconds, attempt=attempt)
        self._index.replace(row, changed(row.operation, lease=lease, revision=self._number(), updated_at=now))
        return row.operation

    def _renewed(self, row: Row, *, now: float, lease_seconds: float) -> Operation:
        lease = row.operation.lease
        assert lease is not None, "only called for a record with a lease"
        self._index.replace(row, changed(row.operation, lease=replace(lease, until=now + lease_seconds)))
        return row.operation

    def _remove(self, row: Row) -> None:
        self._free_claims(row.operation)
        self._index.remove(row)

    def _prune(self, row: Row) -> None:
        if row.pruned:
            self._remove(row)
            return
        self._free_claims(row.operation)
        row.pruned = True
        self._index.replace(row, changed(pruned(row.operation), revision=self._number()))
