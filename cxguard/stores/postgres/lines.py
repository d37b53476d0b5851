"""What one event loop has open: a connection that writes batches, and one that reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import psycopg

from cxguard.clock import Clock
from cxguard.errors import CxguardError, StoreError, StoreUnavailable
from cxguard.stores.batch import Batcher
from cxguard.stores.postgres.connection import Connection, told
from cxguard.stores.postgres.jobs import Job
from cxguard.stores.postgres.writing import write_batch

Read: TypeAlias = Callable[[Connection], Awaitable[Any]]

DOWN_SECONDS = 0.25  # after a failed connection: who asks meanwhile hears it at once, and waits for no time-out

_NOT_REPLICATED = frozenset({"57014", "57P01"})  # as a warning: committed here, the standby's word was not waited for


class Link:
    """One connection, made when it is needed and again when it broke. Belongs to one event loop.

    Args:
        connect: makes a connection that has been checked.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], *, patience_seconds: float) -> None:
        self._connect = connect
        self._patience_seconds = patience_seconds
        self._connection: Connection | None = None
        self._warned = False
        self._down: tuple[float, StoreError] | None = None  # until when, and why

    async def use(self, work: Callable[[Connection], Awaitable[Any]]) -> Any:
        """Do *work* with the connection.

        Raises:
            StoreUnavailable: it may have happened or not.
            StoreUnfit, ConfigurationError: as `connect` says.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                connection = await self._open()
                self._warned = False
                result = await work(connection)
        except CxguardError:
            raise
        except (psycopg.Error, OSError) as error:
            await self.close()
            raise told(error) from error
        except TimeoutError:
            self.finish()
            raise StoreUnavailable(
                f"PostgreSQL gave no answer within {self._patience_seconds:g} s: it may have happened; look before you act again"
            ) from None
        except asyncio.CancelledError:
            self.finish()  # an answer may still be under way: nobody may take it for the next one
            raise
        if self._warned:
            raise StoreUnavailable("PostgreSQL committed without its synchronous standby: it may be lost; look before you act again")
        return result

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except (psycopg.Error, OSError):
                pass

    def finish(self) -> None:
        """Close at once, without a word to the server: from any thread."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()

    async def _open(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        now = asyncio.get_running_loop().time()
        if self._down is not None and now < self._down[0]:
            raise type(self._down[1])(*self._down[1].args)
        try:
            connection = await self._connect()
        except StoreError as error:
            self._down = (asyncio.get_running_loop().time() + DOWN_SECONDS, error)
            raise
        connection.add_notice_handler(self._heard)
        self._connection, self._down = connection, None
        return connection

    def _heard(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING" and notice.sqlstate in _NOT_REPLICATED:
            self._warned = True


class Line:
    """The batches of one event loop."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], *, slot: int, clock: Clock | None, patience_seconds: float
    ) -> None:
        # its own error comes before the batch's patience ends, so that the connection is free again by then
        self._writer = Link(connect, patience_seconds=0.9 * patience_seconds)
        self._reader = Link(connect, patience_seconds=0.9 * patience_seconds)
        self._slot = slot
        self._clock = clock
        self.writes: Batcher[Job, Any] = Batcher(self._send_writes, name="PostgreSQL", patience_seconds=patience_seconds)
        self.reads: Batcher[Read, Any] = Batcher(self._send_reads, name="PostgreSQL", patience_seconds=patience_seconds)

    async def drain(self) -> None:
        await self.writes.drain()
        await self.reads.drain()

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    def finish(self) -> None:
        self._writer.finish()
        self._reader.finish()

    def _send_writes(self, jobs: list[Job]) -> asyncio.Future[Sequence[Any]]:
        async def write() -> Sequence[Any]:
            answers: Sequence[Any] = await self._writer.use(lambda each: write_batch(each, jobs, slot=self._slot, clock=self._clock))
            return answers

        return asyncio.get_running_loop().create_task(write())

    def _send_reads(self, reads: list[Read]) -> asyncio.Future[Sequence[Any]]:
        async def read() -> Sequence[Any]:
            return [await self._answer(each) for each in reads]

        return asyncio.get_running_loop().create_task(read())

    async def _answer(self, read: Read) -> Any:
        async def whole(connection: Connection) -> Any:
            answer = await read(connection)
            await connection.rollback()  # a reader keeps no transaction open: it would hold back the cleaning up
            return answer

        try:
            return await self._reader.use(whole)
        except (StoreError, ValueError) as error:
            return error
