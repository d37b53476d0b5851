"""A TCP proxy that loses what it is told to lose: requests before they arrive, or answers on their way back; or is slow."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 65_536


class CutWire:
    """A proxy in front of a local port.

    Attributes:
        requests, answers: False: what comes on this way is lost, and the connection stays.
        answers_delay_seconds: how long each piece of an answer is under way.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests = True
        self.answers = True
        self.answers_delay_seconds = 0.0
        self._to = port
        self._tls = tls
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "inside of `cut_wire`"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)

    async def close(self) -> None:
        assert self._server is not None, "inside of `cut_wire`"
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """End every connection, in the middle of whatever it carries."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server serves in tasks"
        self._serving.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, back]
        await asyncio.gather(self._pump(reader, back, request=True), self._pump(there, writer, request=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, request: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(CHUNK_BYTES):
                if not request and self.answers_delay_seconds:
                    await asyncio.sleep(self.answers_delay_seconds)
                if self.requests if request else self.answers:
                    writer.write(piece)
                    await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def cut_wire(port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[CutWire]:
    """A proxy in front of a local port; with *tls*, to be spoken to in secret."""
    wire = CutWire(port, tls=tls)
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()
