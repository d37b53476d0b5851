"""One batch of jobs as one transaction: lock and load, let the jobs work, write and commit.

Two round trips, however many jobs: the statements of each half travel together (libpq's pipeline mode). A job that is
refused has changed nothing and is told alone. When another process inserted the same name meanwhile, or the server broke
a deadlock, nothing was committed, and the whole batch is run again. A value that the server cannot take (a NUL in a text,
a number too large) fails only whoever brought it: the others run again, each alone.

A record may be held for long by a transaction that is not ours: the shop's own, which finishes an order (`joined`), and hangs.
Whoever waits for it must not make everybody else wait. So after LOCK_SECONDS the batch is run again without the records that
are held, and the jobs that name one are told so (`Held`).

Everybody locks records in the order of their ids, and a claim belongs to the record that holds it: whoever moves or frees
one has locked that record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, assert_never

import psycopg
from psycopg import errors

from cxguard.clock import Clock
from cxguard.core.operation import RECORD_VERSION
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import SessionBatch
from cxguard.stores.postgres.connection import Connection, Server
from cxguard.stores.postgres.jobs import Job, LeaveJob, PruneJob, RecordJob, SessionJob, SwapJob
from cxguard.stores.postgres.rows import Moved, StoredRow
from cxguard.stores.postgres.working_set import WorkingSet
from cxguard.stores.record import BATCH_IDS_KEPT_SECONDS, SESSIONS_FORGOTTEN_MAX, SESSIONS_KEPT_SECONDS
from cxguard.stores.verbs import prune_row

LOCK_SECONDS = 0.75  # a transaction of ours holds a record for two round trips and a commit
RUNS_MAX = 8  # of one batch: each time somebody else came first, and is done now
PUT_OFF_SECONDS = 300.0  # a record that cannot be read is looked at again after this: it must not stand before others
NUMBERS_PER_ROW = 2
NUMBERS_PER_CLAIM = 2

Cursor: TypeAlias = psycopg.AsyncCursor[Any]

_REFUSALS = (LeaseLost, StoreUnavailable, KeyError)
AGAIN: tuple[type[Exception], ...] = (errors.UniqueViolation, errors.DeadlockDetected, errors.SerializationFailure, Moved)
UNWRITABLE: tuple[type[Exception], ...] = (errors.DataError, UnicodeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Held:
    """A transaction of somebody's holds a record that the job names: nothing of the job was done.

    Attributes:
        ids: all that are held of those that its batch names.
    """

    ids: frozenset[str]


async def write_batch(server: Server, jobs: Sequence[Job], *, slot: int, clock: Clock | None) -> list[Any]:
    """Run *jobs* in one transaction; their answers, in order, an exception for each that was refused.

    Raises:
        psycopg.Error: nothing is known of any of them.
    """
    passing = any(isinstance(job, RecordJob) and job.passes for job in jobs)
    for _ in range(RUNS_MAX):
        try:
            return await _write_once(server, jobs, slot=slot, clock=clock, passing=passing)
        except errors.LockNotAvailable:
            await server.connection.rollback()
            if passing:
                raise
            passing = True
        except AGAIN:
            await server.connection.rollback()
        except UNWRITABLE as error:
            await server.connection.rollback()
            if len(jobs) == 1:
                return [unwritable(error)]
            return [(await write_batch(server, [job], slot=slot, clock=clock))[0] for job in jobs]
    raise StoreUnavailable("others changed the same records again and again: nothing was written; try again in a moment")


def unwritable(error: Exception) -> ValueError:
    """What a caller hears whose record the server cannot take. The text names no value: it may be a shopper's."""
    return ValueError(f"PostgreSQL cannot keep this ({type(error).__name__}): a text with a NUL or half a character, or a number too large")


async def _write_once(server: Server, jobs: Sequence[Job], *, slot: int, clock: Clock | None, passing: bool) -> list[Any]:
    batch = _Batch(server, jobs, clock=clock, passing=passing)
    async with server.connection.pipeline():
        await batch.load()
        answers = batch.run()
        await batch.write(slot=slot)
        await server.connection.execute("COMMIT")
    return answers


class _Batch:
    def __init__(self, server: Server, jobs: Sequence[Job], *, clock: Clock | None, passing: bool) -> None:
        self._passing = passing
        self._held: set[str] = set()
        self._held_claims: set[str] = set()
        self._connection: Connection = server.connection
        self._sql = server.sql
        self._timeline = server.timeline
        self._jobs = jobs
        self._clock = clock
        self._table = WorkingSet(now=0.0, numbers=())
        self._found: dict[int, list[StoredRow]] = {}
        self._swapped: dict[int, bool] = {}
        self._sessions: dict[str, int] = {}
        self._first_sessions: set[str] = set()
        self._known_batches: set[str] = set()
        self._accepted: list[SessionBatch] = []
        self._put_off: list[str] = []

    async def load(self) -> None:
        """Ask for all at once, then read the answers."""
        await self._connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        await self._connection.execute(self._sql["settings"])
        now = await self._connection.execute(self._sql["now"])
        numbers = await self._connection.execute(self._sql["numbers"], (sum(map(_numbers, self._jobs)),))
        rows, claims, present = await self._ask_for_records()
        found = {number: await self._ask_for(job) for number, job in enumerate(self._jobs) if isinstance(job, PruneJob)}
        swapping = [(job.key, number, job) for number, job in enumerate(self._jobs) if isinstance(job, SwapJob)]
        swaps = {number: await self._ask_to_swap(job) for _, number, job in sorted(swapping, key=lambda each: each[:2])}
        sessions = await self._ask_for_sessions()
        self._table = WorkingSet(now=await self._now(now), numbers=[row[0] for row in await numbers.fetchall()])
        for row in await rows.fetchall() if rows is not None else ():
            self._table.add(row)
        self._held = {id for (id,) in await present.fetchall() if not self._table.holds(id)} if present is not None else set()
        for claim, id in await claims.fetchall() if claims is not None else ():
            self._add_claim(claim, id)
        for number, cursor in found.items():
            self._found[number] = [self._table.add(row) for row in await cursor.fetchall()]
        self._swapped = {number: await cursor.fetchone() is not None for number, cursor in swaps.items()}
        if sessions is not None:
            self._sessions = dict(await sessions[0].fetchall())
            self._known_batches = {row[0] for row in await sessions[1].fetchall()}

    def _add_claim(self, claim: str, id: str) -> None:
        if id in self._held:
            self._held_claims.add(claim)
        elif self._table.holds(id):
            self._table.add_claim(claim, id)
        else:
            raise Moved

    def run(self) -> list[Any]:
        return [self._answer(number, job) for number, job in enumerate(self._jobs)]

    async def write(self, *, slot: int) -> None:
        for name, values in self._table.writes(slot=slot):
            await self._connection.execute(self._sql[name], values)
        for job in self._jobs:
            if isinstance(job, LeaveJob):
                left = {"ids": list(job.tokens), "tokens": list(job.tokens.values()), "until": self._table.now + PUT_OFF_SECONDS}
                await self._connection.execute(self._sql["leave"], left)
        if self._put_off:
            await self._connection.execute(self._sql["put_off_pruning"], (self._table.now + PUT_OFF_SECONDS, self._put_off))
        await self._write_sessions()

    async def _now(self, cursor: psycopg.AsyncCursor[Any]) -> float:
        row = await cursor.fetchone()
        assert row is not None, "the server has a clock"
        if row[1] != self._timeline:
            raise errors.ConnectionException("the server behind this connection has changed")
        return self._clock.now() if self._clock is not None else float(row[0])

    async def _ask_for_records(self) -> tuple[Cursor | None, Cursor | None, Cursor | None]:
        """The records, locked; the claims; and, where those that are held were passed by, which there are."""
        execute, sql = self._connection.execute, self._sql
        records = [job for job in self._jobs if isinstance(job, RecordJob)]
        if not records:
            return None, None, None
        names = {
            "ids": sorted({id for job in records for id in job.ids}),
            "claims": sorted({claim for job in records for claim in job.claims}),
        }
        await execute(sql["lock_timeout"], {"lock_timeout": f"{LOCK_SECONDS * 1000:.0f}"})
        lock = sql["lock"] if names["claims"] else sql["lock_ids"]
        rows = await execute(lock + " SKIP LOCKED" if self._passing else lock, names)
        await execute(sql["settings"])
        claims = await execute(sql["held_claims"], (names["claims"],)) if names["claims"] else None
        return rows, claims, await execute(sql["present"], names) if self._passing else None

    async def _ask_for(self, job: PruneJob) -> psycopg.AsyncCursor[Any]:
        now = self._clock.now() if self._clock is not None else None
        # our own locks do not hide a row from another job of this batch: so many are asked for that each finds its own
        limit = sum(each.limit for each in self._jobs if isinstance(each, PruneJob))
        values = {"namespace": job.namespace, "version": RECORD_VERSION, "limit": limit, "now": now}
        return await self._connection.execute(self._sql["prunable"], values)

    async def _ask_to_swap(self, job: SwapJob) -> psycopg.AsyncCursor[Any]:
        if job.revision == 0:
            return await self._connection.execute(self._sql["first_swap"], (job.key, job.value))
        return await self._connection.execute(self._sql["swap"], (job.value, job.key, job.revision))

    async def _ask_for_sessions(self) -> tuple[psycopg.AsyncCursor[Any], psycopg.AsyncCursor[Any]] | None:
        batches = [job.batch for job in self._jobs if isinstance(job, SessionJob)]
        if not batches:
            return None
        ids = sorted({row.id for batch in batches for row in batch.rows})
        rows = await self._connection.execute(self._sql["lock_sessions"], (ids,))
        return rows, await self._connection.execute(self._sql["known_batches"], ([batch.id for batch in batches],))

    def _answer(self, number: int, job: Job) -> Any:
        match job:
            case RecordJob():
                if not (self._held.isdisjoint(job.ids) and self._held_claims.isdisjoint(job.claims)):
                    return Held(frozenset(self._held))
                try:
                    return job.run(self._table)
                except _REFUSALS as error:
                    return error
            case PruneJob():
                rows = self._readable(number)[: job.limit]
                for row in rows:
                    prune_row(self._table, row)
                return len(rows) + self._unreadable(number)
            case LeaveJob():
                return None
            case SwapJob():
                return self._swapped[number]
            case SessionJob():
                return job.batch.id in self._known_batches or self._accept(job.batch)
            case _:
                assert_never(job)

    def _readable(self, number: int) -> list[StoredRow]:
        """The rows found, without those whose body a newer version wrote; and none that another job of the batch changed."""
        rows = self._found[number]
        self._put_off.extend(row.operation.id for row in rows if row.operation.version > RECORD_VERSION)
        return [row for row in rows if row.operation.version <= RECORD_VERSION and row.operation is row.before and not row.gone]

    def _unreadable(self, number: int) -> int:
        return sum(row.operation.version > RECORD_VERSION for row in self._found[number])

    def _accept(self, batch: SessionBatch) -> bool:
        """Whether every session still is as the recorder knew it; the next job of this batch finds it changed."""
        if any(self._sessions.get(row.id, 0) != row.revision for row in batch.rows):
            return False
        self._first_sessions.update(row.id for row in batch.rows if row.revision == 0)
        self._sessions.update({row.id: row.revision + 1 for row in batch.rows})
        self._known_batches.add(batch.id)
        self._accepted.append(batch)
        return True

    async def _write_sessions(self) -> None:
        """All that was accepted, each kind in the order of its names: other processes write the same counters."""
        execute, sql = self._connection.execute, self._sql
        rows = {row.id: row for batch in self._accepted for row in batch.rows}  # of two in one batch, the later one holds both
        for id, row in sorted(rows.items()):
            values = (row.revision + 1, row.body, row.updated_at)
            if id in self._first_sessions:
                await execute(sql["add_session"], (id, *values, row.updated_at))
            else:
                await execute(sql["put_session"], (*values, id))
        sums: defaultdict[str, float] = defaultdict(float)
        for batch in self._accepted:
            for name, amount in batch.counters.items():
                sums[name] += amount
        for name, total in sorted(sums.items()):
            await execute(sql["add_counter"], (name, total))
        if self._accepted:
            await execute(sql["forget_batches"], (self._table.now - BATCH_IDS_KEPT_SECONDS,))
            await execute(sql["forget_sessions"], {"before": self._table.now - SESSIONS_KEPT_SECONDS, "limit": SESSIONS_FORGOTTEN_MAX})
        for batch in self._accepted:
            await execute(sql["remember_batch"], (batch.id, self._table.now))


def _numbers(job: Job) -> int:
    match job:
        case RecordJob():
            return job.numbers + NUMBERS_PER_CLAIM * len(job.claims)
        case PruneJob():
            return NUMBERS_PER_ROW * job.limit
        case LeaveJob() | SwapJob() | SessionJob():
            return 0
        case _:
            assert_never(job)
