"""The SQLite store: durable on one machine, for any number of its processes, with nothing to install or to run.

A verb becomes a job in the next batch; a batch is one transaction in the writing thread, under a file lock that the
processes share. Reads have a thread and a connection of their own. After a fork the child opens its own connections and
never touches its parent's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cxguard.clock import Clock
from cxguard.core.money import Note
from cxguard.core.operation import Operation
from cxguard.errors import ConfigurationError, StoreUnavailable
from cxguard.stores.base import Level, Opened, Page, Query, Seen, SessionBatch, SessionRow, Tally, Versioned
from cxguard.stores.batch import BATCH_MAX, PATIENCE_SECONDS, WAITING_MAX, Batcher, Lines
from cxguard.stores.record import PRUNE_MAX, check_lease_seconds, check_limit, check_query, check_take
from cxguard.stores.sqlite import ears, reads, small, verbs
from cxguard.stores.sqlite.database import BUSY_SECONDS
from cxguard.stores.sqlite.reader import Read, Reader
from cxguard.stores.sqlite.rows import encode
from cxguard.stores.sqlite.worker_thread import WorkerThread
from cxguard.stores.sqlite.writer import FREE_BYTES_MIN, Job, Writer


@dataclass(frozen=True, slots=True)
class _Open:
    """What one process has open, from `start` to `stop`."""

    pid: int
    writing: WorkerThread[Job]
    reading: WorkerThread[Read]
    writes: Lines[Job, Any]
    reads: Lines[Read, Any]


class SQLiteStore:
    """A store in one file. See `cxguard.stores.base.Store` for what each verb promises.

    Args:
        path: the file; made on first use, readable by this user only. Its folder must exist, on a disk of this machine.
        free_bytes_min: with less free space than this no new order is taken in; those that are open can still end.
        batch_max, waiting_max, patience_seconds: see `Batcher`.
    """

    level = Level.FSYNC

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock,
        free_bytes_min: int = FREE_BYTES_MIN,
        batch_max: int = BATCH_MAX,
        waiting_max: int = WAITING_MAX,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.path = Path(path).absolute()
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._limits = {"batch_max": batch_max, "waiting_max": waiting_max}
        self._patience_seconds = patience_seconds
        self._epoch = ""
        self._open: _Open | None = None
        self._starting: asyncio.Task[None] | None = None
        self._of_parent: list[_Open] = []  # kept for ever: closing them in a child would break the parent's file

    @property
    def epoch(self) -> str:
        """A random name made with the file. A backup that is put back has the same one: it cannot be told here."""
        return self._epoch

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._open is not None and self._open.pid == os.getpid():
            return
        starting = self._starting
        if starting is None or starting.done() or starting.get_loop() is not loop:
            starting = self._starting = loop.create_task(self._start())
        await asyncio.shield(starting)  # of several who start it at once, one who is cancelled leaves the others theirs

    async def stop(self) -> None:
        """Finish what was accepted, then close.

        Raises:
            StoreUnavailable: the disk does not answer; what was accepted and not told may have happened or not.
        """
        opened, self._open = self._open, None
        if opened is None or opened.pid != os.getpid():
            return
        try:
            async with asyncio.timeout(2 * self._patience_seconds):
                await opened.writes.drain()
                await opened.reads.drain()
                await _close(opened)
        except TimeoutError:
            raise StoreUnavailable(f"{self.path} did not close: look at its disk, or at a process that was stopped while writing") from None

    async def open(
        self, operation: Operation, *, holder: str, attempt: str, lease_seconds: float | None, superseding: Sequence[Seen] = ()
    ) -> Opened:
        if lease_seconds is not None:
            check_lease_seconds(lease_seconds)
        opened: Opened = await self._write(
            partial(
                verbs.open_operation,
                encoded=encode(operation),
                holder=holder,
                attempt=attempt,
                lease_seconds=lease_seconds,
                superseding=superseding,
            )
        )
        return opened

    async def save(self, operation: Operation, *, token: int, keep_lease: bool, gone: bool = False) -> Operation:
        saved: Operation = await self._write(
            partial(verbs.save_operation, encoded=encode(operation), token=token, keep_lease=keep_lease, gone=gone)
        )
        return saved

    async def take(self, *, namespace: str, rules: Sequence[str], holder: str, lease_seconds: float, limit: int) -> tuple[Operation, ...]:
        check_take(rules, lease_seconds=lease_seconds, limit=limit)
        taken: tuple[Operation, ...] = await self._write(
            partial(verbs.take_operations, rules=rules, namespace=namespace, holder=holder, lease_seconds=lease_seconds, limit=limit)
        )
        return taken

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
        opened: Opened = await self._write(
            partial(
                verbs.seize_operation,
                seen=seen,
                holder=holder,
                attempt=attempt,
                lease_seconds=lease_seconds,
                claims=claims,
                superseding=superseding,
            )
        )
        return opened

    async def renew(self, tokens: Mapping[str, int], *, lease_seconds: float) -> frozenset[str]:
        check_lease_seconds(lease_seconds)
        lost: frozenset[str] = await self._write(partial(verbs.renew_leases, tokens=tokens, lease_seconds=lease_seconds))
        return lost

    async def note(self, id: str, note: Note, *, namespace: str, stub_due_seconds: float = 120.0) -> Operation:
        noted: Operation = await self._write(
            partial(verbs.note_operation, id=id, note=note, namespace=namespace, stub_due_seconds=stub_due_seconds)
        )
        return noted

    async def put(self, operation: Operation, *, replacing: Seen | None = None, superseding: Sequence[Seen] = ()) -> Opened:
        job = partial(verbs.put_operation, encoded=encode(operation), replacing=replacing, superseding=superseding)
        put: Opened = await self._write(job)
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
        changed: int = await self._write(partial(verbs.prune_operations, namespace=namespace, limit=limit))
        return changed

    async def load(self, key: str) -> Versioned:
        found: Versioned = await self._read(partial(reads.load_value, key=key))
        return found

    async def swap(self, key: str, *, revision: int, value: bytes) -> bool:
        swapped: bool = await self._write(partial(small.swap_value, key=key, revision=revision, value=value))
        return swapped

    async def sessions(self, ids: Sequence[str]) -> Mapping[str, SessionRow]:
        found: Mapping[str, SessionRow] = await self._read(partial(reads.read_sessions, ids=ids))
        return found

    async def record(self, batch: SessionBatch) -> bool:
        recorded: bool = await self._write(partial(small.record_batch, batch=batch))
        return recorded

    async def counters(self, prefix: str) -> Mapping[str, float]:
        found: Mapping[str, float] = await self._read(partial(reads.read_counters, prefix=prefix))
        return found

    async def used_bytes(self) -> int:
        """What the records take on the disk, beside the log."""
        used: int = await self._read(reads.used_bytes)
        return used

    async def clock(self) -> float:
        return self._clock.now()

    async def announce(self, topics: Sequence[str]) -> None:
        try:
            ears.announce(self.path, topics)
        except OSError as error:
            raise StoreUnavailable(f"the other processes at {self.path} were not told ({error}): they look by themselves") from error

    async def listen(self, hear: Callable[[str], None]) -> None:
        await ears.listen(self.path, hear)

    async def _write(self, job: Job) -> Any:
        return await (await self._opened()).writes.ask(job)

    async def _read(self, read: Read) -> Any:
        return await (await self._opened()).reads.ask(read)

    async def _opened(self) -> _Open:
        opened = self._open
        if opened is None:
            raise ConfigurationError(f"the store {self.path} is not open: await store.start() first")
        if opened.pid != os.getpid():
            await self.start()
            return await self._opened()
        return opened

    def _make_open(self) -> _Open:
        writing: WorkerThread[Job] = WorkerThread(
            Writer(
                self.path,
                clock=self._clock,
                free_bytes_min=self._free_bytes_min,
                busy_seconds=min(BUSY_SECONDS, self._patience_seconds / 2),  # its error comes before our patience ends
            ),
            name="cxguard-write",
        )
        reading: WorkerThread[Read] = WorkerThread(Reader(self.path), name="cxguard-read")
        return _Open(
            pid=os.getpid(),
            writing=writing,
            reading=reading,
            writes=Lines(lambda: self._batcher(writing.send)),
            reads=Lines(lambda: self._batcher(reading.send)),
        )

    def _batcher(self, send: Callable[[list[Any]], asyncio.Future[Sequence[Any]]]) -> Batcher[Any, Any]:
        return Batcher(send, name=str(self.path), patience_seconds=self._patience_seconds, **self._limits)

    async def _start(self) -> None:
        if self._open is not None:
            self._of_parent.append(self._open)
            self._open = None
        opening = self._make_open()
        try:
            self._epoch = await opening.writing.open()
            await opening.reading.open()
        except BaseException:
            await _close(opening)
            raise
        self._open = opening


async def _close(opened: _Open) -> None:
    await opened.reading.close()
    await opened.writing.close()
