"""The guard's life beside the app's: started with the lifespan where there is one, else by the first guarded request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from cxguard.asgi.types import App, Message, Receive, Scope, Send
from cxguard.engine.bounds import is_cancelled
from cxguard.errors import ConfigurationError, StoreError
from cxguard.guard import Guard
from cxguard.logs import get_logger

_log = get_logger("lifespan")

MEANWHILE = "ruled paths are answered with 503, or pass unwatched; all others work; each request tries again"
TELL_AGAIN_SECONDS = 60.0  # between two lines that say the same: while the guard cannot start, each request finds it out


class Lifespan:
    """Starts and stops the guard around the app's own lifespan, whose messages pass unchanged.

    Attributes:
        state: what the app puts there as it starts, for its requests; None: the server has no such thing.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.state: Mapping[str, Any] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._told: dict[str, float] = {}  # why it had not started, and when that was said; monotonic

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the lifespan through. Wrong settings fail the start; a store that is away does not."""
        watched = _Watched(self._guard, receive, send)
        self.state = scope.get("state")
        try:
            await app(scope, watched.receive, watched.send)
        finally:
            if watched.stopping:
                await self._guard.stop()
            elif not watched.complete and not is_cancelled():  # it has no lifespan: servers go on without
                self._guard.start_wanted()

    def start_beside(self) -> None:
        """Start while a request that needs no guard passes: kept orders must not wait for the next shopper who pays."""
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self.start_late(), name="cxguard-start")

    async def start_late(self) -> None:
        """Start at a request: there was no lifespan (Django), or the store was away until now. Until it has, ruled paths say 503."""
        if not self._guard.started:
            try:
                await self._guard.start()
            except (StoreError, ConfigurationError) as error:
                self._tell(str(error))

    def _tell(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told.get(why, float("-inf")) >= TELL_AGAIN_SECONDS:
            self._told = {why: now}
            _log.error("guard.not_started", why=why, meanwhile=MEANWHILE)


class _Watched:
    """The lifespan's two channels. The guard starts before the app and stops after it; its duties, which run the app's own code,
    begin when the app is ready, and end while it is whole."""

    def __init__(self, guard: Guard, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._receive = receive
        self._send = send
        self.complete = False
        self.stopping = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            await self._start()
        elif message["type"] == "lifespan.shutdown":
            await self._guard.finish_runs()
            await self._guard.stop_duties()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self.complete = True
            self._guard.start_wanted()
        elif message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self._guard.stop()
        elif message["type"] == "lifespan.startup.failed":
            self.stopping = True
        await self._send(message)

    async def _start(self) -> None:
        try:
            await self._guard.start(duties=False)
        except StoreError as error:  # away now: ruled paths answer 503 and try again; the shop goes on
            _log.warning("guard.not_started", why=str(error), meanwhile=MEANWHILE)
        except Exception as error:  # a server that only saw it raised would take the app for one without a lifespan, and serve it unstarted
            self.stopping = True
            await self._send({"type": "lifespan.startup.failed", "message": f"cxguard did not start: {error}"})
            raise
