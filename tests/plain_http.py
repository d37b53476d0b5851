"""HTTP/1.1 with as little work as can be: a load's client must not be what the machine is busy with.

An httpx pool looks at all its connections for each request; hundreds of shoppers at once cost more than the shop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

IDLE_SECONDS_MAX = 3.0  # below a server's 5 s: who writes into a connection that just closed does not know what became of it
HEAD_BYTES_MAX = 65_536


class NoAnswer(OSError):
    """The connection could not be made, or broke: whether the request arrived is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; nobody here reads headers."""

    status: int
    content: bytes


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    free_since: float = 0.0


class PlainClient:
    """One server. As many connections as there are requests at once; free ones are used again."""

    def __init__(self, url: str, *, seconds_max: float) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._seconds_max = seconds_max
        self._free: list[_Connection] = []

    async def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request and read its answer.

        Raises:
            NoAnswer: there is none within the client's time.
        """
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._seconds_max):
                connection = await self._connection()
                connection.writer.write(request_bytes(method, path, host=f"{self._host}:{self._port}", headers=headers or {}, body=body))
                answer, reusable = await _read(connection.reader)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _drop(connection)
            raise NoAnswer(type(error).__name__) from error
        except asyncio.CancelledError:
            _drop(connection)
            raise
        if reusable:
            connection.free_since = time.monotonic()
            self._free.append(connection)
        else:
            _drop(connection)
        return answer

    def close(self) -> None:
        while self._free:
            _drop(self._free.pop())

    async def _connection(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if time.monotonic() - connection.free_since < IDLE_SECONDS_MAX and not connection.reader.at_eof():
                return connection
            _drop(connection)
        return _Connection(*await asyncio.open_connection(self._host, self._port, limit=HEAD_BYTES_MAX))


def _drop(connection: _Connection | None) -> None:
    if connection is not None:
        connection.writer.transport.abort()


def request_bytes(method: str, path: str, *, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A request as it goes over the line."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json", *(f"{name}: {headers[name]}" for name in headers)]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def _read(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The answer, and whether the connection may be used again."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    content = await reader.readexactly(int(headers["content-length"])) if "content-length" in headers else await reader.read()
    return Answer(int(first.split(" ")[1]), content), "content-length" in headers and headers.get("connection") != "close"
