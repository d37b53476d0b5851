"""One batch of jobs as one transaction: lock and load, let the jobs work, write and commit.

Two round trips, however many jobs: the statements of each half travel together (libpq's pipeline mode). A job that is
refused has changed nothing and is told alone. When another process inserted the same name meanwhile, or the server broke
a deadlock, nothing was committed, and the whole batch is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import psycopg
from psycopg import errors

from cxguard.clock import Clock
from cxguard.core.operation import RECORD_VERSION
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import SessionBatch
from cxguard.stores.postgres.jobs import Job, PruneJob, RecordJob, SessionJob, SwapJob, TakeJob
from cxguard.stores.postgres.rows import Moved, StoredRow
from cxguard.stores.postgres.statements import STATEMENTS
from cxguard.stores.postgres.working_set import WorkingSet
from cxguard.stores.record import BATCH_IDS_KEPT_SECONDS
from cxguard.stores.verbs import prune_row, take_rows

RUNS_MAX = 8  # of one batch: each time somebody else came first, and is done now
PUT_OFF_SECONDS = 300.0  # a record that cannot be read is looked at again after this: it must not stand before others
NUMBERS_PER_LEASE = 2
NUMBERS_PER_CLAIM = 2

_REFUSALS = (LeaseLost, StoreUnavailable, KeyError)
_AGAIN = (errors.UniqueViolation, errors.DeadlockDetected, errors.SerializationFailure, Moved)

Connection = psycopg.AsyncConnection[Any]


async def write_batch(connection: Connection, jobs: Sequence[Job], *, slot: int, clock: Clock | None) -> list[Any]:
    """Run *jobs* in one transaction; their answers, in order, an exception for each that was refused.

    Raises:
        psycopg.Error: nothing is known of any of them.
    """
    for _ in range(RUNS_MAX):
        try:
            return await _write_once(connection, jobs, slot=slot, clock=clock)
        except _AGAIN:
            await connection.rollback()
    raise StoreUnavailable("others changed the same records again and again: nothing was written; try again in a moment")


async def _write_once(connection: Connection, jobs: Sequence[Job], *, slot: int, clock: Clock | None) -> list[Any]:
    batch = _Batch(connection, jobs, clock=clock)
    async with connection.pipeline():
        await batch.load()
        answers = batch.run()
        await batch.write(slot=slot)
        await connection.commit()
    return answers


class _Batch:
    def __init__(self, connection: Connection, jobs: Sequence[Job], *, clock: Clock | None) -> None:
        self._connection = connection
        self._jobs = jobs
        self._clock = clock
        self._table = WorkingSet(now=0.0, numbers=())
        self._claims_asked: set[str] = set()
        self._found: dict[int, list[StoredRow]] = {}
        self._swapped: dict[int, bool] = {}
        self._sessions: dict[str, int] = {}
        self._known_batches: set[str] = set()
        self._accepted: list[SessionBatch] = []
        self._put_off: dict[str, list[str]] = {}

    async def load(self) -> None:
        """Ask for all at once, then read the answers."""
        now = await self._connection.execute(STATEMENTS["now"])
        numbers = await self._connection.execute(STATEMENTS["numbers"], (sum(map(_numbers, self._jobs)),))
        rows, claims = await self._ask_for_records()
        found = {number: await self._ask_for(job) for number, job in enumerate(self._jobs) if isinstance(job, TakeJob | PruneJob)}
        swaps = {number: await self._ask_to_swap(job) for number, job in enumerate(self._jobs) if isinstance(job, SwapJob)}
        sessions = await self._ask_for_sessions()
        self._table = WorkingSet(now=await self._now(now), numbers=[row[0] for row in await numbers.fetchall()])
        for claim, id in await claims.fetchall() if claims is not None else ():
            self._table.add_claim(claim, id)
        for row in await rows.fetchall() if rows is not None else ():
            self._add(row)
        for number, cursor in found.items():
            self._found[number] = await self._rows([row[0] for row in await cursor.fetchall()])
        self._swapped = {number: await cursor.fetchone() is not None for number, cursor in swaps.items()}
        if sessions is not None:
            self._sessions = dict(await sessions[0].fetchall())
            self._known_batches = {row[0] for row in await sessions[1].fetchall()}

    def _add(self, row: tuple[Any, ...]) -> StoredRow:
        """Each statement sees what was committed before it: a claim that only the later one saw would be taken unasked."""
        added = self._table.add(row)
        for claim in added.operation.claims:
            if claim in self._claims_asked and self._table.claim_holder(claim) != added.operation.id:
                raise Moved
        return added

    async def _rows(self, ids: list[str]) -> list[StoredRow]:
        """By a statement of its own: the one that locked them saw them as they were before somebody else's last change."""
        if not ids:
            return []
        cursor = await self._connection.execute(STATEMENTS["lock_ids"], {"ids": ids})
        found = {row[1]: self._add(row) for row in await cursor.fetchall()}
        return [found[id] for id in ids]

    def run(self) -> list[Any]:
        return [self._answer(number, job) for number, job in enumerate(self._jobs)]

    async def write(self, *, slot: int) -> None:
        for name, values in self._table.writes(slot=slot):
            await self._connection.execute(STATEMENTS[name], values)
        for name, ids in self._put_off.items():
            await self._connection.execute(STATEMENTS[name], (self._table.now + PUT_OFF_SECONDS, ids))
        for batch in self._accepted:
            await self._write_sessions(batch)

    async def _now(self, cursor: psycopg.AsyncCursor[Any]) -> float:
        row = await cursor.fetchone()
        assert row is not None, "the server has a clock"
        return self._clock.now() if self._clock is not None else float(row[0])

    async def _ask_for_records(self) -> tuple[psycopg.AsyncCursor[Any] | None, psycopg.AsyncCursor[Any] | None]:
        records = [job for job in self._jobs if isinstance(job, RecordJob)]
        ids = sorted({id for job in records for id in job.ids})
        self._claims_asked = {claim for job in records for claim in job.claims}
        claims = sorted(self._claims_asked)
        if not records:
            return None, None
        if not claims:
            return await self._connection.execute(STATEMENTS["lock_ids"], {"ids": ids}), None
        held = await self._connection.execute(STATEMENTS["lock_claims"], (claims,))
        return await self._connection.execute(STATEMENTS["lock"], {"ids": ids, "claims": claims}), held

    async def _ask_for(self, job: TakeJob | PruneJob) -> psycopg.AsyncCursor[Any]:
        now = self._clock.now() if self._clock is not None else None
        # our own locks do not hide a row from another job of this batch: so many are asked for that each finds its own
        limit = sum(each.limit for each in self._jobs if type(each) is type(job))
        values = {"namespace": job.namespace, "version": RECORD_VERSION, "limit": limit, "now": now}
        if isinstance(job, TakeJob):
            return await self._connection.execute(_timed("take", now), {**values, "rules": list(job.rules)})
        return await self._connection.execute(_timed("prunable", now), values)

    async def _ask_to_swap(self, job: SwapJob) -> psycopg.AsyncCursor[Any]:
        if job.revision == 0:
            return await self._connection.execute(STATEMENTS["first_swap"], (job.key, job.value))
        return await self._connection.execute(STATEMENTS["swap"], (job.value, job.key, job.revision))

    async def _ask_for_sessions(self) -> tuple[psycopg.AsyncCursor[Any], psycopg.AsyncCursor[Any]] | None:
        batches = [job.batch for job in self._jobs if isinstance(job, SessionJob)]
        if not batches:
            return None
        ids = sorted({row.id for batch in batches for row in batch.rows})
        rows = await self._connection.execute(STATEMENTS["lock_sessions"], (ids,))
        return rows, await self._connection.execute(STATEMENTS["known_batches"], ([batch.id for batch in batches],))

    def _answer(self, number: int, job: Job) -> Any:
        match job:
            case RecordJob():
                try:
                    return job.run(self._table)
                except _REFUSALS as error:
                    return error
            case TakeJob():
                rows = self._readable(number, "put_off")[: job.limit]
                return take_rows(self._table, rows, holder=job.holder, lease_seconds=job.lease_seconds)
            case PruneJob():
                rows = self._readable(number, "put_off_pruning")[: job.limit]
                for row in rows:
                    prune_row(self._table, row)
                return len(rows) + self._unreadable(number)
            case SwapJob():
                return self._swapped[number]
            case SessionJob():
                return job.batch.id in self._known_batches or self._accept(job.batch)
            case _:
                assert_never(job)

    def _readable(self, number: int, put_off: str) -> list[StoredRow]:
        """The rows found, without those whose body a newer version wrote; and none that another job of the batch leased."""
        rows = self._found[number]
        if self._unreadable(number):
            ids = [row.operation.id for row in rows if row.operation.version > RECORD_VERSION]
            self._put_off.setdefault(put_off, []).extend(ids)
        return [row for row in rows if row.operation.version <= RECORD_VERSION and row.operation is row.before and not row.gone]

    def _unreadable(self, number: int) -> int:
        return sum(row.operation.version > RECORD_VERSION for row in self._found[number])

    def _accept(self, batch: SessionBatch) -> bool:
        """Whether every session still is as the recorder knew it; the next job of this batch finds it changed."""
        if any(self._sessions.get(row.id, 0) != row.revision for row in batch.rows):
            return False
        self._sessions.update({row.id: row.revision + 1 for row in batch.rows})
        self._known_batches.add(batch.id)
        self._accepted.append(batch)
        return True

    async def _write_sessions(self, batch: SessionBatch) -> None:
        execute = self._connection.execute
        for row in sorted(batch.rows, key=lambda row: row.id):
            if row.revision == 0:
                await execute(STATEMENTS["add_session"], (row.id, 1, row.body, row.updated_at))
            else:
                await execute(STATEMENTS["put_session"], (row.revision + 1, row.body, row.updated_at, row.id))
        for name, amount in sorted(batch.counters.items()):
            await execute(STATEMENTS["add_counter"], (name, amount))
        await execute(STATEMENTS["forget_batches"], (self._table.now - BATCH_IDS_KEPT_SECONDS,))
        await execute(STATEMENTS["remember_batch"], (batch.id, self._table.now))


def _numbers(job: Job) -> int:
    match job:
        case RecordJob():
            return job.numbers + NUMBERS_PER_CLAIM * len(job.claims)
        case TakeJob() | PruneJob():
            return NUMBERS_PER_LEASE * job.limit
        case SwapJob() | SessionJob():
            return 0
        case _:
            assert_never(job)


def _timed(name: str, now: float | None) -> str:
    """The statement on the server's own clock, unless a test brings one along."""
    server = "extract(epoch FROM clock_timestamp())::float8"
    return STATEMENTS[name] if now is not None else STATEMENTS[name].replace("%(now)s", server)
