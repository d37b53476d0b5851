"""One round trip, one commit: what needs no look before it writes.

An order that nobody has opened yet is inserted, and a record whose lease we hold is replaced, on the belief that it is as
this process saw it last. Each is written only if the belief was right: that the id and its claims are free, or that token
and revision are the same. An id that is not free is told with its record: all that a repeated submit wants to hear.
Whatever else was not so is *missed*: nothing of it was written, and the caller goes the longer way, which looks first
(`writing`). Nothing is decided here, and nothing in SQL: the verbs have worked on the record before.

Leases begin by the server's clock. We know it from its last answer, and the statement refuses a guess that is off by more
than a quarter of a second: lengthening a lease by more than that would take another's turn, shortening it ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import repeat
from typing import Any

from psycopg import errors

from cxguard.clock import Clock
from cxguard.core.operation import RECORD_VERSION, Operation, changed
from cxguard.errors import LeaseLost, StoreUnavailable
from cxguard.stores.base import TAKE_MAX, Opened
from cxguard.stores.postgres.connection import Server
from cxguard.stores.postgres.jobs import KnownJob, QuickJob, RenewJob, TakeJob
from cxguard.stores.postgres.rows import Moved, Parcel, fresh_row, is_torn, operation_of, row_of_json, saved_row
from cxguard.stores.postgres.working_set import WorkingSet
from cxguard.stores.postgres.writing import AGAIN, UNWRITABLE

Values = Mapping[str, Any]


class Missed(Enum):
    """The record was not as we believed: nothing was written."""

    MISSED = "missed"


MISSED = Missed.MISSED


class ServerClock:
    """The server's clock as its last answer told it, counted on by our monotonic one."""

    def __init__(self) -> None:
        self._ahead: float | None = None

    def heard(self, now: float) -> None:
        self._ahead = now - time.monotonic()

    def guess(self, server: Server) -> float:
        return time.monotonic() + (self._ahead if self._ahead is not None else server.ahead)


@dataclass(frozen=True, slots=True)
class _Written:
    """What the statement says of one record."""

    token: int | None
    revision: int
    lease_until: float | None


async def write_quick(server: Server, jobs: Sequence[QuickJob], *, slot: int, clock: Clock | None, server_clock: ServerClock) -> list[Any]:
    """Run *jobs* in one transaction; their answers, in order: `MISSED` for each that has to go the longer way.

    Raises:
        psycopg.Error: nothing is known of any of them.
    """
    fixed = clock.now() if clock is not None else None
    guess = fixed if fixed is not None else server_clock.guess(server)
    trip = _Trip(jobs, now=guess, slot=slot)
    ready = {"timeline": server.timeline, "clock": fixed}
    try:
        rows = await _ask(server, [(name, {**ready, **values}) for name, values in trip.statements()])
    except (*AGAIN, *UNWRITABLE):  # nothing was committed; who was the cause is found out the longer way
        await server.connection.rollback()
        return [MISSED] * len(jobs)
    now, timeline = trip.read(rows)
    if timeline != server.timeline:
        raise errors.ConnectionException("the server behind this connection has changed: nothing was written")
    server_clock.heard(now)
    return trip.answers


async def _ask(server: Server, asked: Sequence[tuple[str, Values]]) -> list[list[Any]]:
    """The rows of each statement. Several travel together and commit together."""
    execute, sql = server.connection.execute, server.sql
    if len(asked) == 1:
        name, values = asked[0]
        return [await (await execute(sql[name], values)).fetchall()]
    async with server.connection.pipeline():
        cursors = [await execute(sql[name], values) for name, values in asked]
        return [await cursor.fetchall() for cursor in cursors]


class _Trip:
    """The statements of one batch, and what their answers mean to each job."""

    def __init__(self, jobs: Sequence[QuickJob], *, now: float, slot: int) -> None:
        self._jobs = jobs
        self._slot = slot
        self._table = WorkingSet(now=now, numbers=repeat(0))  # the server gives the real ones
        self._takes = _together(jobs)
        self._renewals = [(number, job) for number, job in enumerate(jobs) if isinstance(job, RenewJob)]
        self.answers: list[Any] = [MISSED] * len(jobs)
        self._run_known()

    def _run_known(self) -> None:
        """Let the verbs work. Two jobs that name the same record or claim are not for one statement: the second is missed."""
        named: set[str] = set()
        for number, job in enumerate(self._jobs):
            if not isinstance(job, KnownJob) or not named.isdisjoint((job.id, *job.claims)):
                continue
            named.update((job.id, *job.claims))
            if job.before is not None:
                self._table.add_known(job.before)
            try:
                self.answers[number] = job.run(self._table)
            except (LeaseLost, StoreUnavailable, KeyError):
                continue  # whether that is true, the longer way says

    def statements(self) -> Iterator[tuple[str, Values]]:
        """Each statement; the first one is for all that are known, and tells the time."""
        if any(isinstance(job, KnownJob) for job in self._jobs):
            yield "write_known", self._known_values()
        else:
            yield "now", {}
        for takes in self._takes:
            yield "take", _take_values([job for _, job in takes])
        for _, job in self._renewals:
            yield "renew", _renew_values(job)

    def read(self, found: Sequence[list[Any]]) -> tuple[float, str]:
        """Take in what the server said. Returns its clock and its timeline."""
        first, others = found[0], iter(found[1:])
        for takes in self._takes:
            self._deal_out(takes, next(others))
        for number, job in self._renewals:
            self.answers[number] = frozenset(job.tokens) - {id for (id,) in next(others)}
        if len(first[0]) == 2:
            return float(first[0][0]), str(first[0][1])
        return self._read_known(first)

    def _deal_out(self, takes: Sequence[tuple[int, TakeJob]], rows: list[Any]) -> None:
        """To each take the places that were leased for its holder."""
        last = 0
        for number, job in takes:
            first, last = last, last + job.limit
            self.answers[number] = [row[:-1] for row in rows if first < row[-1] <= last]

    def _known_values(self) -> Values:
        opens, saves, parcel = [], [], Parcel()
        for row in self._table.changed_rows():  # in order of their ids, as everybody locks them
            if row.before is None:
                opens.append(fresh_row(row.operation, parcel, attempt=row.attempt))
            else:
                saves.append(saved_row(row.operation, parcel, before=row.before))
        return {
            "ids": [each["id"] for each in opens],
            "opens": json.dumps(opens),
            "saved": [each["id"] for each in saves],
            "saves": json.dumps(saves),
            "sealed": parcel.sealed,
            "deltas": json.dumps(parcel.deltas()),
            "slot": self._slot,
            "guess": self._table.now,
        }

    def _read_known(self, rows: list[Any]) -> tuple[float, str]:
        written, there, now, timeline = {}, {}, 0.0, ""
        for id, token, revision, until, record, *heard in rows:
            if record is not None:
                there[id] = record
            elif id:
                written[id] = _Written(token, revision, until)
            else:
                now, timeline = heard
        for number, job in enumerate(self._jobs):
            if isinstance(job, KnownJob):
                ours = written.get(job.id) if self.answers[number] is not MISSED else None
                self.answers[number] = _finished(self.answers[number], ours) if ours else _found(job, there.get(job.id), now=now)
        return now, timeline


def _found(job: KnownJob, record: list[Any] | None, *, now: float) -> Any:
    """What the verb makes of the record that is there: an answer if it only looked, else missed."""
    if record is None:
        return MISSED
    table = WorkingSet(now=now, numbers=repeat(0))
    try:
        row = table.add(row_of_json(record))
    except Moved:
        return MISSED
    answer = job.run(table)
    return answer if isinstance(answer, Opened) and not answer.won and row.operation is row.before else MISSED


def _together(jobs: Sequence[QuickJob]) -> list[list[tuple[int, TakeJob]]]:
    """The takes of a batch that one statement can serve: for the same rules and time, and no more than one take may ask for."""
    found: list[list[tuple[int, TakeJob]]] = []
    filling: dict[tuple[str, tuple[str, ...], float], list[tuple[int, TakeJob]]] = {}
    for number, job in enumerate(jobs):
        if isinstance(job, TakeJob):
            kind = (job.namespace, job.rules, job.lease_seconds)
            takes = filling.get(kind)
            if takes is None or sum(each.limit for _, each in takes) + job.limit > TAKE_MAX:
                takes = filling[kind] = []
                found.append(takes)
            takes.append((number, job))
    return found


def _take_values(jobs: Sequence[TakeJob]) -> Values:
    holders = [job.holder for job in jobs for _ in range(job.limit)]  # of the most urgent record, of the next one, ...
    return {
        "namespace": jobs[0].namespace,
        "rules": list(dict.fromkeys(jobs[0].rules)),
        "holders": holders,
        "lease_seconds": jobs[0].lease_seconds,
        "limit": len(holders),
        "version": RECORD_VERSION,
        "guess": None,
    }


def _renew_values(job: RenewJob) -> Values:
    ids = sorted(job.tokens)
    return {"ids": ids, "tokens": [job.tokens[id] for id in ids], "lease_seconds": job.lease_seconds, "guess": None}


def taken(rows: list[Any]) -> list[tuple[str, Operation | None]]:
    """What `take` leased, most overdue first; None for one that has to be read again, since a fact came in meanwhile."""
    ranked = sorted(rows, key=lambda row: (row[-1], row[0]))
    return [(row[1], None if is_torn(row) else operation_of(row[:-1])) for row in ranked]


def _finished(answer: Any, written: _Written) -> Any:
    """The verb's answer with the numbers that the server gave."""
    if isinstance(answer, Opened):
        return replace(answer, operation=_numbered(answer.operation, written))
    return _numbered(answer, written)


def _numbered(operation: Operation, written: _Written) -> Operation:
    lease = operation.lease
    if lease is not None and written.token is not None:
        lease = replace(lease, token=written.token)
    elif lease is not None and written.lease_until is not None:
        lease = replace(lease, until=written.lease_until)  # the heartbeat may have lengthened it meanwhile
    return changed(operation, revision=written.revision, lease=lease)
