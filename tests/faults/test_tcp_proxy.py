"""The proxy fails as it is told to, and only so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tcp_proxy import Mode, TcpProxy, proxied


class Echo:
    """A server that remembers what it was asked, and says it back."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.news = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.heard.append(line)
            self.news.set()
            writer.write(line)
        writer.close()


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[tuple[Echo, TcpProxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with proxied("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield echo, proxy
    server.close()


async def asked(proxy: TcpProxy, line: bytes) -> bytes:
    """One line there and back; empty when the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(line)
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


@pytest.mark.asyncio
async def test_it_passes(ends: tuple[Echo, TcpProxy]) -> None:
    """Without a fault it is not noticed."""
    _, proxy = ends
    assert await asked(proxy, b"a\n") == b"a\n"


@pytest.mark.asyncio
async def test_cut_before_the_request_reaches_nobody(ends: tuple[Echo, TcpProxy]) -> None:
    """The client hears nothing, and the server was never asked."""
    echo, proxy = ends
    proxy.mode = Mode.CUT_BEFORE_REQUEST
    assert await asked(proxy, b"a\n") == b""
    assert (echo.heard, proxy.cuts) == ([], 1)


@pytest.mark.asyncio
async def test_cut_before_the_answer_leaves_the_work_done(ends: tuple[Echo, TcpProxy]) -> None:
    """The client hears nothing, and the server has worked; every second answer is let through if so told."""
    echo, proxy = ends
    proxy.mode, proxy.cut_every = Mode.CUT_BEFORE_ANSWER, 2
    assert [await asked(proxy, line) for line in (b"a\n", b"b\n", b"c\n")] == [b"a\n", b"", b"c\n"]
    assert echo.heard == [b"a\n", b"b\n", b"c\n"]


@pytest.mark.asyncio
async def test_black_hole_gives_back_what_it_took(ends: tuple[Echo, TcpProxy]) -> None:
    """Nothing passes while it is there; what was sent into it arrives when it closes."""
    echo, proxy = ends
    proxy.mode = Mode.BLACK_HOLE
    asking = asyncio.ensure_future(asked(proxy, b"a\n"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await echo.news.wait()
    proxy.mode = Mode.PASS
    assert await asking == b"a\n"


@pytest.mark.asyncio
async def test_delay_is_paid_both_ways(ends: tuple[Echo, TcpProxy]) -> None:
    """An answer takes the delay twice: there and back."""
    _, proxy = ends
    proxy.mode, proxy.delay_seconds = Mode.DELAY, 0.05
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asked(proxy, b"a\n") == b"a\n"
    assert loop.time() - began >= 0.1


@pytest.mark.asyncio
async def test_what_is_sent_before_an_answer_is_one_round_trip(ends: tuple[Echo, TcpProxy]) -> None:
    """Two lines at once are one question; a line after an answer is another."""
    _, proxy = ends
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    for lines in (b"a\nb\n", b"c\n"):
        writer.write(lines)
        for _ in lines.splitlines():
            await reader.readline()
    writer.transport.abort()
    assert proxy.round_trips == 2
