"""A TCP proxy between a client and a server, for the ways in which a network fails.

async with proxied("127.0.0.1", port) as proxy:     # proxy.port is where the client connects to
    proxy.mode = Mode.CUT_BEFORE_ANSWER
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

CHUNK = 65_536


class Mode(StrEnum):
    """What happens to what passes from now on. Bytes that are on their way already are not called back."""

    PASS = "pass"
    DELAY = "delay"  # each chunk comes `delay_seconds` later, in both directions
    CUT_BEFORE_REQUEST = "cut_before_request"  # the connection breaks before the server has read a byte of it
    CUT_BEFORE_ANSWER = "cut_before_answer"  # the server has worked, and nobody hears of it
    BLACK_HOLE = "black_hole"  # nothing passes and nothing is refused; what was sent arrives when the hole closes


@dataclass(slots=True)
class Talk:
    """Who spoke last on one connection: the client (`asked`), or the server."""

    asked: bool = False


class TcpProxy:
    """One address that stands for another one.

    Attributes:
        cut_every: with the modes that cut, every so-manieth chunk is where it happens: a call of several chunks is cut at each
            of its places in turn.
        cuts: how often a connection was cut, over all.
        round_trips: how often a client has asked and waited: what it sends before it has heard anything is one question.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.target_port = port
        self.port = 0
        self.delay_seconds = 0.0
        self.cut_every = 1
        self.cuts = 0
        self.round_trips = 0
        self._chunks = 0
        self._mode = Mode.PASS
        self._passing = asyncio.Event()
        self._passing.set()
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.BLACK_HOLE:
            self._passing.clear()
        else:
            self._passing.set()

    @property
    def links(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def cut_all(self) -> None:
        """Break every connection, as a router that restarts does."""
        self.cuts += len(self._links)
        for link in self._links:
            link.cancel()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None, "it was started"
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.get_running_loop().create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, until either side ends it or the mode does."""
        upstream: asyncio.StreamWriter | None = None
        pumps: list[asyncio.Task[None]] = []
        talk = Talk()
        try:
            await self._passing.wait()
            answers, upstream = await asyncio.open_connection(self.host, self.target_port)
            pumps = [
                asyncio.ensure_future(self._pump(reader, upstream, talk, cut=Mode.CUT_BEFORE_REQUEST)),
                asyncio.ensure_future(self._pump(answers, writer, talk, cut=Mode.CUT_BEFORE_ANSWER)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # there is no server, or the proxy ends: the client sees a broken connection
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, talk: Talk, *, cut: Mode) -> None:
        """Carry bytes one way. Returns when the connection is to end."""
        while data := await reader.read(CHUNK):
            await self._passing.wait()
            self._count(talk, asks=cut is Mode.CUT_BEFORE_REQUEST)
            if self._mode is cut and self._is_cut():
                return
            if self._mode is Mode.DELAY:
                asyncio.get_running_loop().call_later(self.delay_seconds, _written, writer, data)
            else:
                writer.write(data)
                await writer.drain()

    def _count(self, talk: Talk, *, asks: bool) -> None:
        self.round_trips += asks and not talk.asked
        talk.asked = asks

    def _is_cut(self) -> bool:
        self._chunks += 1
        self.cuts += self._chunks % self.cut_every == 0
        return self._chunks % self.cut_every == 0


def _written(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[TcpProxy]:
    """A proxy to host and port while the block runs."""
    proxy = TcpProxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
