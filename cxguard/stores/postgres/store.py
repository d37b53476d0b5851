"""The PostgreSQL store: the recommended ledger for a shop on many machines.

A verb becomes a job in the next batch. An order that is new, or whose record this process holds, is written in one round trip
(`one_trip`); whatever is not as we believed, and all else, in two (`writing`). Leases and due times run on the server's clock.
Each event loop has connections of its own; after a fork the child makes new ones.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from cxguard.clock import Clock
from cxguard.core.money import Note
from cxguard.core.operation import RECORD_VERSION, Operation
from cxguard.errors import ConfigurationError, PartAway
from cxguard.stores import verbs
from cxguard.stores.base import Level, Match, Opened, Page, Query, Seen, SessionBatch, SessionRow, Tally, Versioned
from cxguard.stores.batch import PATIENCE_SECONDS
from cxguard.stores.joining import InThread, Joined
from cxguard.stores.postgres import reads
from cxguard.stores.postgres.connection import Server, serving
from cxguard.stores.postgres.hints import announce_topics, channel_of, listen_on
from cxguard.stores.postgres.jobs import Job, KnownJob, LeaveJob, PruneJob, QuickJob, RecordJob, RenewJob, SessionJob, SwapJob, TakeJob
from cxguard.stores.postgres.joined import Home, join_transaction
from cxguard.stores.postgres.known import Known
from cxguard.stores.postgres.lines import Line, Read
from cxguard.stores.postgres.one_trip import MISSED, taken
from cxguard.stores.postgres.schema import SCHEMA_NAME
from cxguard.stores.postgres.statements import statements_of
from cxguard.stores.postgres.writing import Held
from cxguard.stores.record import PRUNE_MAX, check_lease_seconds, check_limit, check_query, check_take, leased

HELD_SECONDS, HELD_PAUSE_SECONDS = 2.0, 0.05  # as long as a lock of any other kind is waited for, in all
SLOTS = 16  # of each counter: more processes than that share them


class PostgresStore:
    """A store on a PostgreSQL server. See `cxguard.stores.base.Store` for what each verb promises.

    Args:
        url: as libpq reads it: `postgresql://user@host/database`. A password belongs into `PGPASSFILE` or the environment.
        direct_url: where hints are heard, when *url* is a pooler's; without it, hints do not come through one.
        schema: where the tables are; made on first use, if the role may and *migrate* says so.
        migrate: bring the schema up to date on start; False: `cxguard migrate` does it.
        clock: for tests, instead of the server's.
        patience_seconds: a batch without an answer for so long: nobody knows.
    """

    def __init__(
        self,
        url: str,
        *,
        direct_url: str | None = None,
        schema: str = "cxguard",
        migrate: bool = True,
        clock: Clock | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        if not SCHEMA_NAME.fullmatch(schema):
            raise ConfigurationError(f'schema={schema!r} is no plain name: write schema="cxguard"')
        self._url = url
        self._direct_url = direct_url
        self._schema = schema
        self._migrate = migrate
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._slot = secrets.randbelow(SLOTS)
        self._level, self._epoch = Level.FSYNC, ""
        self._known = Known()
        self._homes: dict[str, Home] = {}  # of the epoch that is now
        self._lines: dict[asyncio.AbstractEventLoop, Line] | None = None
        self._pid = os.getpid()
        self._of_parent: list[Any] = []  # kept for ever: closing them in a child would end its parent's connections

    @property
    def level(self) -> Level:
        """`replicated` where the server waits for a synchronous standby, else `fsync`; as of the last connection."""
        return self._level

    @property
    def epoch(self) -> str:
        """The database's system identifier and timeline: a restore has another identifier, a failover another timeline."""
        return self._epoch

    async def start(self) -> None:
        if self._lines is None or self._pid != os.getpid():
            self._leave_parent()
            server = await self._connect()
            await server.connection.close()
            self._lines = {}

    async def stop(self) -> None:
        """Finish what was accepted, then close.

        Raises:
            StoreUnavailable: the server takes too long for that; what was accepted and not told may have happened or not.
        """
        if self._lines is None or self._pid != os.getpid():
            return
        lines, self._lines = self._lines, None
        own = lines.get(asyncio.get_running_loop())
        try:
            if own is not None:
                await own.close()
        finally:  # also if nobody waits for us any longer; other event loops have ended, or will hear it at their next call
            for line in tuple(lines.values()):
                line.end()

    async def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        if lease_seconds is not None:
            check_lease_seconds(lease_seconds)
        run = partial(
            verbs.open_operation,
            operation=operation,
            holder=holder,
            attempt=attempt,
            lease_seconds=lease_seconds,
            superseding=superseding,
        )
        opened: Opened | None = None
        if self._known.get(operation.id) is None and not superseding:
            opened = await self._quickly(KnownJob(run, operation.id, claims=operation.claims))
        if opened is None:
            job = RecordJob(run, ids=(operation.id,), claims=operation.claims)
            opened = await self._opened(job, namespace=operation.namespace, superseding=superseding)
        self._known.see(opened)
        return opened

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        run = partial(verbs.save_operation, operation=operation, token=token, keep_lease=keep_lease, gone=gone)
        before = self._known.pop(operation.id)
        saved: Operation | None = None
        if before is not None and not gone and before.lease is not None and before.lease.token == token:
            saved = await self._quickly(KnownJob(run, operation.id, before=before))
        if saved is None:
            saved = await self._write(RecordJob(run, ids=(operation.id,)))
        self._known.keep(saved)
        return saved

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        check_take(rules, lease_seconds=lease_seconds, limit=limit)
        job = TakeJob(namespace, tuple(rules), holder, lease_seconds, limit)
        rows = None
        while rows is None:  # missed: somebody else's lock was in the way, and is gone; the store's patience bounds each turn
            rows = await self._quickly(job)
        operations = []
        for id, operation in taken(rows):
            if operation is not None and operation.version <= RECORD_VERSION:
                self._known.keep(operation)
            operations.append(operation or await self.get(id))
        found = [operation for operation in operations if operation is not None and operation.lease is not None]
        unreadable = {one.id: one.lease.token for one in found if one.version > RECORD_VERSION and one.lease is not None}
        if unreadable:
            await self._write(LeaveJob(unreadable))
        return tuple(operation for operation in found if operation.id not in unreadable)

    async def seize(
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
        run = partial(
            verbs.seize_operation,
            seen=seen,
            holder=holder,
            attempt=attempt,
            lease_seconds=lease_seconds,
            claims=claims,
            superseding=superseding,
        )
        opened = await self._opened(RecordJob(run, ids=(seen.id,), claims=tuple(claims)), superseding=superseding, seen=seen)
        self._known.see(opened)
        return opened

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        check_lease_seconds(lease_seconds)
        lost: frozenset[str] | None = None
        while lost is None:
            lost = await self._quickly(RenewJob(dict(tokens), lease_seconds))
        return lost

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        run = partial(verbs.note_operation, id=id, note=note, namespace=namespace, stub_due_seconds=stub_due_seconds)
        noted: Operation = await self._write(RecordJob(run, ids=(id,)))
        self._known.changed(noted)
        return noted

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        run = partial(verbs.put_operation, operation=operation, replacing=replacing, superseding=superseding)
        put: Opened = await self._write(RecordJob(run, ids=(operation.id,), claims=operation.claims))
        return put

    async def get(self, id: str) -> Operation | None:
        found: Operation | None = await self._read(partial(reads.get_operation, id=id))
        return found

    async def search(self, query: Query) -> Page:
        check_query(query)
        page: Page = await self._read(partial(reads.search_operations, query=query))
        return page

    async def tally(self, namespace: str) -> Tally:
        tally: Tally = await self._read(partial(reads.read_tally, namespace=namespace))
        return tally

    async def prune(self, *, namespace: str, limit: int) -> int:
        check_limit(limit, limit_max=PRUNE_MAX)
        changed: int = await self._write(PruneJob(namespace, limit))
        return changed

    async def load(self, key: str) -> Versioned:
        found: Versioned = await self._read(partial(reads.load_value, key=key))
        return found

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        swapped: bool = await self._write(SwapJob(key, revision, value))
        return swapped

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        found: Mapping[str, SessionRow] = await self._read(partial(reads.read_sessions, ids=ids))
        return found

    async def record(self, batch: SessionBatch) -> bool:
        recorded: bool = await self._write(SessionJob(batch))
        return recorded

    async def counters(self, prefix: str) -> Mapping[str, float]:
        found: Mapping[str, float] = await self._read(partial(reads.read_counters, prefix=prefix))
        return found

    async def clock(self) -> float:
        now: float = self._clock.now() if self._clock is not None else await self._read(reads.read_clock)
        return now

    async def announce(self, topics: Sequence[str]) -> None:
        await self._read(partial(announce_topics, channel=channel_of(self._schema), topics=topics))

    async def listen(self, hear: Callable[[str], None]) -> None:
        await listen_on(self._direct_url or self._url, channel=channel_of(self._schema), hear=hear)

    async def join(self, connection: object, *, in_thread: InThread | None = None) -> Joined:
        """See `cxguard.stores.joining.Joining`."""
        home = self._homes.get(self._epoch)
        if home is None:
            home = Home(*await self._read(reads.read_place))
            self._homes = {self._epoch: home}
        return await join_transaction(connection, in_thread=in_thread, home=home, statements=statements_of(self._schema), clock=self._clock)

    async def is_open(self, name: str) -> bool:
        still: bool = await self._read(partial(reads.is_open, name=name))
        return still

    async def _quickly(self, job: QuickJob) -> Any:
        """The answer, or None: the longer way knows."""
        answer = await (await self._line()).quick.ask(job)
        return None if answer is MISSED else answer

    async def _write(self, job: Job) -> Any:
        answer = await (await self._line()).writes.ask(job)
        return await self._when_free(job) if isinstance(answer, Held) else answer

    async def _opened(self, job: RecordJob, *, superseding: Sequence[Seen], namespace: str = "", seen: Seen | None = None) -> Opened:
        """As `_write`. A record that is held is somebody's: not won, told as it is for all who only read; the others, as they are.

        Args:
            seen: the record that is to be seized; None: it is to be opened.
        """
        answer: Opened | Held = await (await self._line()).writes.ask(job)
        if not isinstance(answer, Held):
            return answer
        now, (id,) = await self.clock(), job.ids
        own = await self.get(id)
        if own is not None:
            taken = id in answer.ids or leased(own, now=now)
            if taken or seen is None or own.revision != seen.revision:
                return Opened(False, own, taken, Match.ID, now)
        for claim in job.claims:
            page = await self.search(Query(namespace=own.namespace if own is not None else namespace, claim=claim, limit=1))
            for other in page.operations:
                if other.id != id and Seen(other.id, other.revision) not in superseding:
                    return Opened(False, other, other.id in answer.ids or leased(other, now=now), Match.CLAIM, now, claim)
        opened: Opened = await self._when_free(job)  # what is held is to be superseded, or was given up since
        return opened

    async def _when_free(self, job: Job) -> Any:
        """A transaction of the shop's own holds the record: ask now and then, so that nobody else waits behind us."""
        assert isinstance(job, RecordJob), "only those name records"
        for _ in range(round(HELD_SECONDS / HELD_PAUSE_SECONDS)):
            await asyncio.sleep(HELD_PAUSE_SECONDS)
            answer = await (await self._line()).writes.ask(replace(job, passes=True))
            if not isinstance(answer, Held):
                return answer
        raise PartAway("a transaction of the shop's own holds this record: nothing was written; try again in a moment")

    async def _read(self, read: Read) -> Any:
        return await (await self._line()).reads.ask(read)

    async def _line(self) -> Line:
        if self._lines is None:
            raise ConfigurationError("the PostgreSQL store is not open: await store.start() first")
        if self._pid != os.getpid():
            await self.start()
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            for ended in [known for known in tuple(self._lines) if known.is_closed()]:
                self._lines.pop(ended).end()
            line = self._lines[loop] = Line(self._connect, slot=self._slot, clock=self._clock, patience_seconds=self._patience_seconds)
        return line

    async def _connect(self) -> Server:
        """A connection to a server that is still fit, with a schema that we know."""
        server = await serving(self._url, schema=self._schema, migrate=self._migrate)
        self._level, self._epoch = server.level, server.epoch
        return server

    def _leave_parent(self) -> None:
        if self._lines is not None:
            self._of_parent.append(self._lines)
            self._lines = None
        self._pid = os.getpid()
