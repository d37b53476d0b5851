"""The writer: one transaction a batch, under a lock that several processes share fairly."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import apsw

from cxguard.clock import Clock
from cxguard.errors import StoreUnavailable
from cxguard.stores.sqlite.aside import Identity, identity, lock_of
from cxguard.stores.sqlite.checkpointer import Checkpointer
from cxguard.stores.sqlite.database import BUSY_SECONDS, connect, prepare, quick_check, told
from cxguard.stores.sqlite.place import check_place, free_bytes
from cxguard.stores.sqlite.statements import STATEMENTS
from cxguard.stores.sqlite.transaction import Transaction
from cxguard.stores.sqlite.verbs import REFUSALS

Job = Callable[[Transaction], Any]
Answer = Any  # what a job returns, or the exception that is its caller's alone

FREE_BYTES_MIN = 32 * 1024 * 1024  # below this no new order is taken in: what is open must still be able to end


class _BatchFailed(Exception):
    """One job of a batch failed in a way that the batch does not survive; nothing of it was kept."""


class Writer:
    """What the writing thread does. See `WorkerThread`."""

    def __init__(self, path: Path, *, clock: Clock, free_bytes_min: int = FREE_BYTES_MIN, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._free_bytes_min = free_bytes_min
        self._connection: apsw.Connection | None = None
        self._lock = -1
        self._file: Identity | None = None
        self._checkpointer = Checkpointer(path)

    def open(self) -> str:
        """Open and check the file; its epoch.

        Raises:
            ConfigurationError, StoreUnfit, StoreUnavailable: as `Store.start`.
        """
        check_place(self._path)
        try:
            self._lock = os.open(lock_of(self._path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            _writers.add(self)
            with self._turn():
                self._connection = connect(self._path, busy_seconds=self._busy_seconds)
                epoch = prepare(self._connection, self._path)
            quick_check(self._connection, self._path)
            self._connection.set_wal_hook(self._log_grew)
        except apsw.Error as error:
            raise told(error, self._path) from error
        except OSError as error:
            raise StoreUnavailable(f"cannot write beside {self._path} ({error}): give this user the right, or free some space") from error
        self._file = identity(self._path)
        return epoch

    def close(self) -> None:
        self._checkpointer.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.let_go()

    def let_go(self) -> None:
        """Close the lock file. A forked child does so at once: while it has it open, the parent's turn outlives the parent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def run(self, items: Sequence[Job]) -> Sequence[Answer]:
        """Run the jobs in one transaction. If one of them breaks it, each runs in one of its own: only that one fails."""
        try:
            self._check_file()
            with self._turn():
                return self._commit(items)
        except _BatchFailed:
            return [self._run_alone(item) for item in items]
        except apsw.Error as error:
            raise told(error, self._path) from error

    def _check_room(self) -> None:
        """Refuse new orders while the disk is almost full.

        Raises:
            StoreUnavailable: nothing was kept.
        """
        if free_bytes(self._path.parent) < self._free_bytes_min:
            raise StoreUnavailable(
                f"the disk of {self._path} is almost full (less than {self._free_bytes_min >> 20} MB): "
                "no new order was kept; free some space"
            )

    def _run_alone(self, item: Job) -> Answer:
        try:
            with self._turn():
                return self._commit([item])[0]
        except _BatchFailed as failure:
            cause = failure.__cause__
            return told(cause, self._path) if isinstance(cause, apsw.Error) else cause
        except apsw.Error as error:
            return told(error, self._path)

    def _commit(self, items: Sequence[Job]) -> list[Answer]:
        connection = self._connection
        assert connection is not None, "opened first"
        connection.execute(STATEMENTS["begin"])
        try:
            transaction = Transaction(connection, clock=self._clock, check_room=self._check_room)
            transaction.follow_clock()
            answers = [_answer(item, transaction) for item in items]
            transaction.finish()
            connection.execute(STATEMENTS["commit"])
        except BaseException:
            with suppress(apsw.Error):  # the first error is the one that counts
                if connection.in_transaction:
                    connection.execute(STATEMENTS["rollback"])
            raise
        if self._checkpointer.tail_ready:
            self._checkpointer.carry_tail(connection)
        return answers

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for this process's turn to write. SQLite's own waiting polls, and lets a busy process starve the others."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _check_file(self) -> None:
        """A file that was deleted or replaced would take orders into nothing."""
        if identity(self._path) != self._file:
            raise StoreUnavailable(f"{self._path} was deleted or replaced while in use: put it back, then restart this program")

    def _log_grew(self, connection: apsw.Connection, database: str, pages: int) -> int:
        self._checkpointer.log_has(pages)
        return apsw.SQLITE_OK


def _answer(item: Job, transaction: Transaction) -> Answer:
    try:
        return item(transaction)
    except REFUSALS as refusal:
        return refusal
    except Exception as error:
        raise _BatchFailed from error


def _let_go_after_fork() -> None:
    for writer in tuple(_writers):
        writer.let_go()


_writers: WeakSet[Writer] = WeakSet()
os.register_at_fork(after_in_child=_let_go_after_fork)
