"""The hints of one process: one listener for all who want to hear, and whether hints are known to come at all.

Hints may be lost, late or doubled, so everybody looks now and then, and less often while hints come. A process knows that
they do by hearing something, if nothing else then its own echo: a pooler in between, or a listener that the server has
forgotten, would be silent without an error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from cxguard.clock import Clock
from cxguard.core.hints import ECHO_SECONDS, are_known_to_come, echo_topic
from cxguard.errors import StoreError
from cxguard.logs import get_logger
from cxguard.stores.base import EVERYTHING, Hinting, Store

LISTEN_AGAIN_SECONDS = 1.0  # after the store stopped giving hints
TELL_PAUSE_SECONDS = 0.005  # what comes so soon after something was told is told together
TELL_SECONDS_MAX = 1.0  # for one word with the store: later it says nothing any more
UNTOLD_MAX = 1_000  # topics that wait to be told; one more is lost, as a hint may be

_log = get_logger("hints")


class Hints:
    """Tells the other processes on a store that something is worth a look, and hears it from them.

    Args:
        process: names this process among all.
    """

    def __init__(self, store: Store, clock: Clock, *, process: str) -> None:
        self._store = cast(Hinting, store) if isinstance(store, Hinting) else None
        self._clock = clock
        self._echo_topic = echo_topic(process)
        self._hearers: list[Callable[[str], None]] = []
        self._heard_at: float | None = None  # monotonic; what was announced, not `EVERYTHING`
        self._begun = asyncio.Event()  # listening has begun, or begun again
        self._untold: dict[str, None] = {}  # in order
        self._telling: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def come(self) -> bool:
        """Whether hints are known to come now."""
        return are_known_to_come(self._heard_at, self._clock.monotonic())

    def listen(self, hear: Callable[[str], None]) -> None:
        """Call *hear* with every topic, and with `EVERYTHING` when hints may have been missed. It must not block."""
        self._hearers.append(hear)

    def forget(self, hear: Callable[[str], None]) -> None:
        """Call it no more. Idempotent."""
        if hear in self._hearers:
            self._hearers.remove(hear)

    def tell(self, topic: str) -> None:
        """Tell all processes, this one too, in a moment. Does not wait, and never fails. From the guard's own loop.

        Where the store gives no hints, this process alone hears it.
        """
        if self._store is None:
            asyncio.get_running_loop().call_soon(self._pass_on, topic)
            return
        if len(self._untold) < UNTOLD_MAX:
            self._untold[topic] = None
        if self._telling is None or self._telling.done() or not self._telling.get_loop().is_running():
            self._telling = asyncio.get_running_loop().create_task(self._tell(self._store), name="cxguard-tell")

    def start(self) -> None:
        """Listen, in the running loop. Idempotent."""
        if self._store is not None and not self._tasks:
            self._tasks = [
                asyncio.create_task(self._listen(self._store), name="cxguard-hints"),
                asyncio.create_task(self._echo(), name="cxguard-echo"),
            ]

    async def stop(self) -> None:
        """Tell what is left to tell, and listen no more. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self._heard_at = [], None
        if self._telling is not None and self._telling.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({self._telling}, timeout=TELL_SECONDS_MAX)
            self._telling.cancel()

    async def _tell(self, store: Hinting) -> None:
        while self._untold:
            topics, self._untold = tuple(self._untold), {}
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(TELL_SECONDS_MAX):
                    await store.announce(topics)
            await asyncio.sleep(TELL_PAUSE_SECONDS)

    async def _listen(self, store: Hinting) -> None:
        while True:
            try:
                await store.listen(self._hear)
            except Exception as error:  # noqa: BLE001 - without hints everybody looks by themselves
                _log.debug("hints.none", why=str(error)[:200])
            self._heard_at = None
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _echo(self) -> None:
        """Say something now and then, and at once when listening has begun."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ECHO_SECONDS):
                    await self._begun.wait()
            self._begun.clear()
            self.tell(self._echo_topic)

    def _hear(self, topic: str) -> None:
        if topic == EVERYTHING:
            self._begun.set()
        else:
            self._heard_at = self._clock.monotonic()
        if topic != self._echo_topic:
            self._pass_on(topic)

    def _pass_on(self, topic: str) -> None:
        for hear in tuple(self._hearers):
            hear(topic)
