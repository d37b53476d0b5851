"""What runs beside the requests: the queue and the upkeep. Each duty is one `run_once` with a loop around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cxguard.clock import Clock
from cxguard.engine.handle import TURN_SECONDS
from cxguard.engine.pausing import pause
from cxguard.engine.queue import TAKE_AT_ONCE, FallbackQueue
from cxguard.errors import StoreError
from cxguard.events import Bus, Event
from cxguard.logs import get_logger
from cxguard.stores.base import Store

_log = get_logger("duties")

LOOK_SECONDS = 0.5  # between two looks at an empty queue
PATIENCE_SECONDS = 1.0  # for what a look has taken: a gateway answers in about that; what hangs goes on beside the next look
RAMP_MEMORY_SECONDS = 2.0  # after the last order that was turned away: others may be in the middle of their pause
UPKEEP_SECONDS = 60.0  # between two rounds of forgetting what is past its time
PRUNE_AT_ONCE = 200  # records of one round's step, so that no write waits behind it
STOP_SECONDS = 30.0  # how long a stop waits for what is in hand


@dataclass(slots=True)
class Duty:
    """One duty: `run_once` returns after how many seconds it wants to run again; after a failure it waits `pause_seconds`."""

    name: str
    run_once: Callable[[], Awaitable[float]]
    pause_seconds: float


class Duties:
    """Runs duties until told to stop. A round that fails is logged, and the next one comes."""

    def __init__(self, queue: FallbackQueue, *, store: Store, namespace: str, bus: Bus, clock: Clock) -> None:
        self._queue = queue
        self._store = store
        self._namespace = namespace
        self._bus = bus
        self._clock = clock
        self._tasks: list[asyncio.Task[Any]] = []
        self._away: set[str] = set()  # duties whose last round met a store that was away
        self._stopping = asyncio.Event()
        self._ramp_until = 0.0  # monotonic; until then some queued order waits for its turn after an outage

    def start(self) -> None:
        """Start every duty in the running loop."""
        duties = (
            Duty("queue", self.queue_once, LOOK_SECONDS),
            Duty("upkeep", self.upkeep_once, UPKEEP_SECONDS),
        )
        self._tasks = [asyncio.create_task(self._loop(duty), name=f"cxguard-{duty.name}") for duty in duties]

    async def stop(self) -> None:
        """Let what is in hand come to its end, at most `STOP_SECONDS`; what is left lapses and is rescued."""
        self._stopping.set()
        until = asyncio.get_running_loop().time() + STOP_SECONDS
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
        self._tasks = []
        await self._queue.drain(seconds=until - asyncio.get_running_loop().time())

    async def wait(self) -> None:
        """Wait until told to stop (for a process that does nothing else)."""
        await self._stopping.wait()

    async def queue_once(self) -> float:
        """One look at the queue: the next comes at once while there is work, and soon while a ramp gives out turns."""
        counts = await self._queue.run_once(limit=TAKE_AT_ONCE, wait_seconds=PATIENCE_SECONDS)
        now = self._clock.monotonic()
        if counts.turned_away:
            self._ramp_until = now + RAMP_MEMORY_SECONDS
        if counts.taken > counts.turned_away:
            return 0.0
        return TURN_SECONDS if now < self._ramp_until else LOOK_SECONDS

    async def upkeep_once(self) -> float:
        """Forget what is past its time."""
        pruned = await self._store.prune(namespace=self._namespace, limit=PRUNE_AT_ONCE)
        return 0.0 if pruned else UPKEEP_SECONDS

    async def _loop(self, duty: Duty) -> None:
        while not self._stopping.is_set():
            seconds = await self._round(duty)
            if seconds > 0:
                await pause(self._stopping, seconds=seconds)
            else:
                await asyncio.sleep(0)

    async def _round(self, duty: Duty) -> float:
        try:
            seconds = await duty.run_once()
            self._away.discard(duty.name)
            return seconds
        except StoreError as error:
            if duty.name in self._away:  # told once, and not with every look while the store is away
                return duty.pause_seconds
            self._away.add(duty.name)
            why = str(error)[:200]
        except Exception as error:  # noqa: BLE001 - a duty must outlive one bad round
            _log.exception("duty.failed", duty=duty.name)
            why = type(error).__name__
        self._bus.emit(Event("duty.failed", self._clock.now(), detail={"duty": duty.name, "why": why}))
        return duty.pause_seconds
