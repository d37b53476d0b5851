"""What the gateway, and the line to it, do to a shop while it is shopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

from campaign.playing import Scene, pause
from fleet_world import Fleet
from tcp_proxy import Mode, TcpProxy, proxied

BEGIN_SECONDS, LOST_SECONDS = 1.0, 4.0
CUT_EVERY = 2
SENDS_MAX = 8  # to the gateway for one order, in a storm in which everybody presses again: ATTEMPTS_MAX of the queue


class Line:
    """A line to the gateway that is in the hands of whoever plays the fault."""

    def __init__(self) -> None:
        self.proxy: TcpProxy | None = None

    @asynccontextmanager
    async def reach(self, url: str) -> AsyncIterator[str]:
        parts = urlsplit(url)
        async with proxied(str(parts.hostname), parts.port or 80) as self.proxy:
            yield f"http://127.0.0.1:{self.proxy.port}"

    async def loses(self, mode: Mode, fleet: Fleet) -> int:
        """For some seconds; how many connections were cut, or stuck."""
        assert self.proxy is not None, "it is reached before anybody shops"
        await pause(BEGIN_SECONDS)
        self.proxy.mode, self.proxy.cut_every = mode, CUT_EVERY
        await pause(LOST_SECONDS)
        stuck = self.proxy.links if mode is Mode.BLACK_HOLE else 0
        self.proxy.mode = Mode.PASS
        return self.proxy.cuts + stuck


def lossy(mode: Mode) -> Scene:
    line = Line()
    return Scene(partial(line.loses, mode), reach=line.reach)


class Echo:
    """A line that carries every charge twice: the second copy leaves while the first is under way, and nobody hears its answer."""

    def __init__(self) -> None:
        self.copies = 0
        self._asked: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def reach(self, url: str) -> AsyncIterator[str]:
        parts = urlsplit(url)
        self._to = (str(parts.hostname), parts.port or 80)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in list(self._asked):
                task.cancel()

    async def count(self, fleet: Fleet) -> int:
        """How many there were so far, most of the shopping done."""
        await pause(BEGIN_SECONDS + LOST_SECONDS)
        return self.copies

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, there = await asyncio.open_connection(*self._to)
        back = asyncio.ensure_future(_carried(answers, writer))
        try:
            while request := await _request(reader):
                there.write(request)
                if request.startswith(b"POST /payments "):
                    self._again(request)
                await there.drain()
        finally:
            back.cancel()
            for end in (there, writer):
                end.transport.abort()

    def _again(self, request: bytes) -> None:
        self.copies += 1
        task = asyncio.ensure_future(self._sent(request))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _sent(self, request: bytes) -> None:
        answers, there = await asyncio.open_connection(*self._to)
        there.write(request)
        with suppress(OSError, asyncio.IncompleteReadError):
            await answers.readuntil(b"\r\n\r\n")
        there.transport.abort()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """One whole request; empty at the end."""
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line.partition(":")[2]) for line in lines if line.startswith("content-length:")), 0)
        return head + (await reader.readexactly(length) if length else b"")
    return b""


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


def _twice() -> Scene:
    echo = Echo()
    return Scene(echo.count, reach=echo.reach)


def scenes() -> Mapping[str, Scene]:
    """Made anew for each play: a line has a memory."""
    return {
        "requests lost on the way": lossy(Mode.CUT_BEFORE_REQUEST),
        "answers lost on the way": lossy(Mode.CUT_BEFORE_ANSWER),
        "nothing passes for 4 s": lossy(Mode.BLACK_HOLE),
        "every request arrives twice": _twice(),
        "answers after the time-out": Scene(script="healthy 1s, slow 3s, healthy", control={"slow_seconds": 3.0}),
        "charges land after the time-out": Scene(script="healthy 1s, late 2s, healthy", control={"late_seconds": 4.0}),
        "500, a page, half an answer, rubbish": Scene(script="healthy 1s, 500 1s, error_after 1s, html 1s, half 1s, garbage 1s, healthy"),
        "429 with Retry-After": Scene(script="healthy 1s, throttle 3s, healthy"),
        "cards are declined": Scene(script="healthy 1s, decline 2s, healthy"),
        "a storm of retries": Scene(script="500 5s, healthy", sends_max=SENDS_MAX),
        "flapping": Scene(script="flap 6s, healthy"),
    }
