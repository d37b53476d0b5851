"""The store for tests and for trying things out: fast, exact, and gone with the process.

Every verb runs from start to end under a lock, without giving way to another task: that is its atomic step. The lock
is for the other threads of the process: the heartbeat has one, and so has code that is not async.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

from cxguard.clock import Clock
from cxguard.core.money import Note
from cxguard.core.operation import Operation
from cxguard.errors import StoreUnavailable
from cxguard.stores import verbs
from cxguard.stores.base import EVERYTHING, Level, Opened, Page, Query, Seen, SessionBatch, SessionRow, Tally, Versioned
from cxguard.stores.memory_index import MemoryIndex, Row
from cxguard.stores.record import (
    BATCH_IDS_KEPT_SECONDS,
    PRUNE_MAX,
    SESSIONS_FORGOTTEN_MAX,
    SESSIONS_KEPT_SECONDS,
    brought_back,
    check_lease_seconds,
    check_limit,
    check_query,
    check_take,
    cursor_text,
    set_back_seconds,
)

P = ParamSpec("P")
T = TypeVar("T")

OPERATIONS_MAX = 100_000  # records; about 300 MB of full ones: a test that needs more has lost its way


def _verb(step: Callable[Concatenate[MemoryStore, P], T]) -> Callable[Concatenate[MemoryStore, P], Coroutine[Any, Any, T]]:
    """Make a verb of one step that nobody can interrupt, from whichever thread or event loop it is asked."""

    async def verb(self: MemoryStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            self._table.follow(self._clock.now())
            return step(self, *args, **kwargs)

    verb.__name__, verb.__qualname__ = step.__name__, step.__qualname__
    return verb


class MemoryTable:
    """The rows as `cxguard.stores.verbs` works on them."""

    def __init__(self, index: MemoryIndex, *, operations_max: int, claims: Mapping[str, str] | None = None, last_number: int = 0) -> None:
        self.now = 0.0
        self.replace = index.replace
        self.remove = index.remove
        self.row = index.rows.get
        self.last_number = last_number
        self._index = index
        self._claims = dict(claims or {})
        self._operations_max = operations_max
        self.claim_holder = self._claims.get

    def follow(self, now: float) -> None:
        """Read the clock; leases and due times go back with one that was set back."""
        read_at, self.now = self.now, now
        for row in self._index.rows.values() if set_back_seconds(read_at=read_at, now=now) else ():
            self.replace(row, brought_back(row.operation, read_at=read_at, now=now))

    def insert(self, operation: Operation, *, attempt: str) -> None:
        self._index.insert(Row(operation, number=operation.revision, attempt=attempt))

    def set_claim(self, claim: str, id: str | None) -> None:
        if id is None:
            self._claims.pop(claim, None)
        else:
            self._claims[claim] = id

    def number(self) -> int:
        self.last_number += 1
        return self.last_number

    def claims(self) -> dict[str, str]:
        """Which record holds which claim, as it is now."""
        return dict(self._claims)

    def check_room(self) -> None:
        if len(self._index.rows) >= self._operations_max:
            raise StoreUnavailable(
                f'the memory store is full ({self._operations_max} operations): use a file, "sqlite:///shop.db", or raise operations_max'
            )


@dataclass(frozen=True)
class MemoryCopy:
    """What a memory store held at one moment, as a replica that follows it would have it."""

    rows: tuple[Row, ...]
    claims: Mapping[str, str]
    small: Mapping[str, Versioned]
    sessions: Mapping[str, SessionRow]
    counters: Mapping[str, float]
    batches: Mapping[str, float]

    @property
    def operations(self) -> dict[str, Operation]:
        """The records by their ids."""
        return {row.operation.id: row.operation for row in self.rows}


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
        self._table = MemoryTable(self._index, operations_max=operations_max)
        self._small: dict[str, Versioned] = {}
        self._sessions: dict[str, SessionRow] = {}
        self._counters: dict[str, float] = {}
        self._batches: dict[str, float] = {}
        self._listening: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[str], None]]] = {}

    @property
    def queue_entries(self) -> int:
        """How many entries its queues hold, outdated ones included: for watching that they do not pile up."""
        return self._index.queue_entries

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close; what it holds stays readable."""

    @property
    def records(self) -> tuple[Operation, ...]:
        """All that it holds now, without what a replica would need beside them."""
        with self._lock:
            return tuple(row.operation for row in self._index.rows.values())

    def copied(self) -> MemoryCopy:
        """All that it holds now."""
        with self._lock:
            return MemoryCopy(
                rows=tuple(row.copied() for row in self._index.rows.values()),
                claims=self._table.claims(),
                small=dict(self._small),
                sessions=dict(self._sessions),
                counters=dict(self._counters),
                batches=dict(self._batches),
            )

    def go_back(self, to: MemoryCopy) -> None:
        """Hold what *to* holds, in another life (`epoch`): a replica that lagged takes over. For tests of what then follows.

        As with the other stores no lease token or revision is given out a second time.
        """
        with self._lock:
            self._index = MemoryIndex()
            for row in to.rows:
                self._index.insert(row.copied())
            self._table = MemoryTable(
                self._index, operations_max=self._operations_max, claims=to.claims, last_number=self._table.last_number
            )
            self._small, self._sessions = dict(to.small), dict(to.sessions)
            self._counters, self._batches = dict(to.counters), dict(to.batches)
            self.epoch = uuid.uuid4().hex

    @_verb
    def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        if lease_seconds is not None:
            check_lease_seconds(lease_seconds)
        return verbs.open_operation(
            self._table, operation, holder=holder, attempt=attempt, lease_seconds=lease_seconds, superseding=superseding
        )

    @_verb
    def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        return verbs.save_operation(self._table, operation, token=token, keep_lease=keep_lease, gone=gone)

    @_verb
    def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        check_take(rules, lease_seconds=lease_seconds, limit=limit)
        ripe = self._index.ripe(namespace, rules, now=self._table.now, limit=limit)
        return verbs.take_rows(self._table, ripe, holder=holder, lease_seconds=lease_seconds)

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
        return verbs.seize_operation(
            self._table, seen, holder=holder, attempt=attempt, lease_seconds=lease_seconds, claims=claims, superseding=superseding
        )

    @_verb
    def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        check_lease_seconds(lease_seconds)
        return verbs.renew_leases(self._table, tokens, lease_seconds=lease_seconds)

    @_verb
    def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        return verbs.note_operation(self._table, id, note=note, namespace=namespace, stub_due_seconds=stub_due_seconds)

    @_verb
    def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        return verbs.put_operation(self._table, operation, replacing=replacing, superseding=superseding)

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
        due = self._index.prunable(namespace, now=self._table.now, limit=limit)
        for row in due:
            verbs.prune_row(self._table, row)
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
        now = self._table.now
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
        for id in [id for id in islice(known, SESSIONS_FORGOTTEN_MAX) if known[id].updated_at < now - SESSIONS_KEPT_SECONDS]:
            del known[id]
        return True

    @_verb
    def counters(self, prefix: str) -> Mapping[str, float]:
        return {name: amount for name, amount in self._counters.items() if name.startswith(prefix)}

    async def clock(self) -> float:
        return self._clock.now()

    async def announce(self, topics: Sequence[str]) -> None:
        for loop, hear in tuple(self._listening.values()):
            for topic in topics:
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(hear, topic)

    async def listen(self, hear: Callable[[str], None]) -> None:
        ear = object()
        self._listening[ear] = (asyncio.get_running_loop(), hear)
        try:
            hear(EVERYTHING)
            await asyncio.Event().wait()
        finally:
            del self._listening[ear]
