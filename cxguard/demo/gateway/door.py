"""The port that payments come through, and shutting it for real: no listener, and every connection cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from cxguard.demo.serving import BACKLOG


class Door:
    """One address that can refuse connections and take them again.

    The port stays ours while it is shut: a second socket is bound to it and never listens, so that the kernel answers
    every attempt to connect with a refusal, and no other program can move in.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int) -> None:
        self._app = app
        self._keeper = _bound(host, port)
        self.host, self.port = self._keeper.getsockname()[:2]
        self._server: _InnerServer | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def set_open(self, wanted: bool) -> None:
        """Open or shut; returns when it is so."""
        if wanted and self._server is None:
            await self._open()
        elif not wanted and self._server is not None:
            await self._shut()

    async def close(self) -> None:
        """Shut, and give the port back."""
        await self.set_open(False)
        self._keeper.close()

    async def _open(self) -> None:
        listener = _bound(self.host, self.port)
        listener.listen(BACKLOG)
        server = _InnerServer(quiet_config(self._app))
        self._serving = asyncio.create_task(server.serve(sockets=[listener]), name="door")
        await server.ready.wait()
        self._server = server

    async def _shut(self) -> None:
        assert self._server is not None and self._serving is not None
        server, self._server = self._server, None
        server.should_exit = server.force_exit = True
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await self._serving


def quiet_config(app: ASGIApp) -> uvicorn.Config:
    """uvicorn without access log, banner and lifespan."""
    return uvicorn.Config(
        app, loop="asyncio", lifespan="off", access_log=False, log_level="error", ws="none", timeout_graceful_shutdown=1, backlog=BACKLOG
    )


class _InnerServer(uvicorn.Server):
    """A server beside another one in the same process: signals belong to the outer one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()


def _bound(host: str, port: int) -> socket.socket:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only where it made the socket: 40 ms an answer
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    taken.bind((host, port))
    return taken
