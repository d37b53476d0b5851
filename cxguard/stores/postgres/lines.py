"""What one event loop has open: a connection for what takes one round trip, one for what looks before it writes, one that reads."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg

from cxguard.clock import Clock
from cxguard.errors import CxguardError, StoreError, StoreUnavailable
from cxguard.stores.batch import Batcher
from cxguard.stores.postgres.connection import Server, told
from cxguard.stores.postgres.jobs import Job, QuickJob
from cxguard.stores.postgres.one_trip import ServerClock, write_quick
from cxguard.stores.postgres.writing import UNWRITABLE, unwritable, write_batch

Read: TypeAlias = Callable[[Server], Awaitable[Any]]

HANG_UP_SECONDS = 0.2  # for the driver to see that its connection is gone
END_FACTOR = 2  # times our patience, for all that waits when the store is stopped: what is on its way, and what waits behind it
DOWN_SECONDS = 0.25  # after a failed connection: who asks meanwhile hears it at once, and waits for no time-out

# A commit waits for its standby in this function of the server. Whoever cancels that wait, or ends the server, makes it a
# success with a warning; one of the two has no code of its own, and the text is in the server's language.
_WAITS_FOR_STANDBY = "SyncRepWaitForLSN"


class Link:
    """One connection, made when it is needed and again when it broke. Belongs to one event loop.

    Args:
        connect: makes a connection that has been checked.
    """

    def __init__(self, connect: Callable[[], Awaitable[Server]], *, patience_seconds: float) -> None:
        self._connect = connect
        self._patience_seconds = patience_seconds
        self._server: Server | None = None
        self._warned = False
        self._hung_up = False
        self._down: tuple[float, StoreError] | None = None  # until when, and why
        self._ended = False

    async def use(self, work: Callable[[Server], Awaitable[Any]]) -> Any:
        """Do *work* with the connection.

        Raises:
            StoreUnavailable: it may have happened or not.
            StoreUnfit, ConfigurationError: as `connect` says.
        """
        hanging_up = asyncio.get_running_loop().call_later(self._patience_seconds, self._hang_up)
        try:
            async with asyncio.timeout(self._patience_seconds + HANG_UP_SECONDS):
                server = await self._open()
                self._warned = False
                result = await work(server)
        except (CxguardError, ValueError, KeyError):
            raise
        except (psycopg.Error, OSError) as error:  # a time-out, too, is one of these
            if self._hung_up or isinstance(error, TimeoutError):
                if self._server is None:  # nobody connected in time: whoever comes next need not find that out again
                    self._down = (asyncio.get_running_loop().time() + DOWN_SECONDS, self._no_answer())
                self.finish()
                raise self._no_answer() from None
            await self.close()
            raise told(error) from error
        except asyncio.CancelledError:
            self.finish()  # an answer may still be under way: nobody may take it for the next one
            raise
        finally:
            hanging_up.cancel()
        if self._warned:
            raise StoreUnavailable("PostgreSQL committed without its synchronous standby: it may be lost; look before you act again")
        return result

    def _hang_up(self) -> None:
        """Break the connection under whoever works with it. Cancelling alone would not do: the driver then goes on talking to a
        server that does not answer, and one that comes back in the middle of that leaves both waiting for the other for ever,
        with our locks held."""
        self._hung_up = True
        if self._server is not None and not self._server.connection.closed:
            with socket.socket(fileno=os.dup(self._server.connection.fileno())) as line, suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _no_answer(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"PostgreSQL gave no answer within {self._patience_seconds:g} s: it may have happened; look before you act again"
        )

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            try:
                await server.connection.close()
            except (psycopg.Error, OSError):
                pass

    def finish(self) -> None:
        """Close at once, without a word to the server: from any thread."""
        server, self._server = self._server, None
        if server is not None:
            server.connection.pgconn.finish()

    def end(self) -> None:
        """Close for good, from any thread: a connection that is being made meanwhile is closed as soon as it is there."""
        self._ended = True
        self.finish()

    async def _open(self) -> Server:
        if self._server is not None and not self._server.connection.closed:
            return self._server
        now = asyncio.get_running_loop().time()
        if self._down is not None and now < self._down[0]:
            raise type(self._down[1])(*self._down[1].args)
        try:
            server = await self._connect()
        except StoreError as error:
            self._down = (asyncio.get_running_loop().time() + DOWN_SECONDS, error)
            raise
        server.connection.add_notice_handler(self._heard)
        self._hung_up = False
        self._server, self._down = server, None
        if self._ended:  # asked after the server is kept, as `end` says so before it looks: one of the two closes it
            self.finish()
            raise StoreUnavailable("the PostgreSQL store was stopped: nothing was sent")
        return server

    def _heard(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.source_function == _WAITS_FOR_STANDBY:
            self._warned = True


class Line:
    """The batches of one event loop."""

    def __init__(self, connect: Callable[[], Awaitable[Server]], *, slot: int, clock: Clock | None, patience_seconds: float) -> None:
        # their own error comes before the batch's patience ends, so that the connection is free again by then
        links = [Link(connect, patience_seconds=0.9 * patience_seconds) for _ in range(3)]
        self._links = links
        self._quick, self._writer, self._reader = links
        self._slot = slot
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._server_clock = ServerClock()
        self.quick: Batcher[QuickJob, Any] = Batcher(self._send_quick, name="PostgreSQL", patience_seconds=patience_seconds)
        self.writes: Batcher[Job, Any] = Batcher(self._send_writes, name="PostgreSQL", patience_seconds=patience_seconds)
        self.reads: Batcher[Read, Any] = Batcher(self._send_reads, name="PostgreSQL", patience_seconds=patience_seconds)

    async def close(self) -> None:
        """Finish what was accepted, then close.

        Raises:
            StoreUnavailable: the server takes too long for that; what is on its way may happen or not.
        """
        try:
            async with asyncio.timeout(END_FACTOR * self._patience_seconds):
                await self._drain()
        except TimeoutError:
            raise StoreUnavailable("PostgreSQL does not answer, and was left with calls on their way: look before you act again") from None
        for link in self._links:
            await link.close()

    async def _drain(self) -> None:
        await self.quick.drain()
        await self.writes.drain()
        await self.reads.drain()

    def end(self) -> None:
        for link in self._links:
            link.end()

    def _send_quick(self, jobs: list[QuickJob]) -> asyncio.Future[Sequence[Any]]:
        async def write(server: Server) -> Sequence[Any]:
            return await write_quick(server, jobs, slot=self._slot, clock=self._clock, server_clock=self._server_clock)

        return self._flight(self._quick, write)

    def _send_writes(self, jobs: list[Job]) -> asyncio.Future[Sequence[Any]]:
        async def write(server: Server) -> Sequence[Any]:
            return await write_batch(server, jobs, slot=self._slot, clock=self._clock)

        return self._flight(self._writer, write)

    def _send_reads(self, reads: list[Read]) -> asyncio.Future[Sequence[Any]]:
        async def read() -> Sequence[Any]:
            return [await self._answer(each) for each in reads]

        return asyncio.get_running_loop().create_task(read())

    def _flight(self, link: Link, work: Callable[[Server], Awaitable[Sequence[Any]]]) -> asyncio.Future[Sequence[Any]]:
        async def use() -> Sequence[Any]:
            answers: Sequence[Any] = await link.use(work)
            return answers

        return asyncio.get_running_loop().create_task(use())

    async def _answer(self, read: Read) -> Any:
        async def whole(server: Server) -> Any:
            try:
                return await read(server)
            except UNWRITABLE as error:
                raise unwritable(error) from None

        try:
            return await self._reader.use(whole)
        except (StoreError, ValueError) as error:
            return error
