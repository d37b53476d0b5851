"""Sees when the event loop stands still: code that blocks in an async function keeps every other request waiting with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

LOOK_SECONDS = 0.5
STALL_SECONDS = 1.0  # a loop that is merely busy is late by some ten milliseconds

STALLS_COUNTER = "loop.stalled"


class StallWatch:
    """Asks to be woken again and again, and tells how much too late it was.

    Args:
        tell: gets the seconds of each stall, in the event loop, when it is over.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch the running loop until `stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="cxguard-stalls")

    async def stop(self) -> None:
        """Stop watching. Idempotent."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            late_seconds = loop.time() - due_at
            if late_seconds >= STALL_SECONDS:
                self._tell(late_seconds)
