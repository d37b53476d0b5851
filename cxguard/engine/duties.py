"""What runs beside the requests: the queue and the upkeep. Each duty is one `run_once` with a loop around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from cxguard.clock import Clock
from cxguard.core.hints import due_in
from cxguard.engine.handle import TURN_SECONDS
from cxguard.engine.hints import Hints
from cxguard.engine.pausing import pause
from cxguard.engine.queue import TAKE_AT_ONCE, FallbackQueue
from cxguard.errors import StoreError
from cxguard.events import Bus, Event
from cxguard.logs import get_logger
from cxguard.stores.base import EVERYTHING, Store

_log = get_logger("duties")

LOOK_SECONDS = 0.5  # between two looks at an empty queue, while no hints are known to come
HINTED_LOOK_SECONDS = 2.0  # while they are: for what a dead process held, and for a hint that was lost
HINT_PAUSE_SECONDS = 0.05  # between two looks that were asked for by hints: many orders that come at once are one look
DUES_MAX = 100  # orders that will be due in a moment: more are found by looking
PATIENCE_SECONDS = 1.0  # for what a look has taken: a gateway answers in about that; what hangs goes on beside the next look
RAMP_MEMORY_SECONDS = 2.0  # after the last order that was turned away: others may be in the middle of their pause
UPKEEP_SECONDS = 60.0  # between two rounds of forgetting what is past its time
PRUNE_AT_ONCE = 200  # records of one round's step, so that no write waits behind it
STOP_SECONDS = 30.0  # how long a stop waits for what is in hand


@dataclass(slots=True)
class Duty:
    """One duty: `run_once` returns after how many seconds it wants to run again; after a failure it waits `pause_seconds`.

    Attributes:
        woken: it is to run again at once.
    """

    name: str
    run_once: Callable[[], Awaitable[float]]
    pause_seconds: float
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Duties:
    """Runs duties until told to stop. A round that fails is logged, and the next one comes."""

    def __init__(self, queue: FallbackQueue, *, store: Store, namespace: str, bus: Bus, clock: Clock, hints: Hints) -> None:
        self._queue = queue
        self._store = store
        self._namespace = namespace
        self._bus = bus
        self._clock = clock
        self._hints = hints
        self._queue_duty = Duty("queue", self.queue_once, LOOK_SECONDS)
        self._upkeep_duty = Duty("upkeep", self.upkeep_once, UPKEEP_SECONDS)
        self._dues: list[float] = []  # when orders are due that somebody has told of; a heap
        self._tasks: list[asyncio.Task[Any]] = []
        self._away: set[str] = set()  # duties whose last round met a store that was away
        self._stopping = asyncio.Event()
        self._ramp_until = 0.0  # monotonic; until then some queued order waits for its turn after an outage

    def start(self) -> None:
        """Start every duty in the running loop."""
        self._hints.listen(self._hear)
        duties = (self._queue_duty, self._upkeep_duty)
        self._tasks = [asyncio.create_task(self._loop(duty), name=f"cxguard-{duty.name}") for duty in duties]

    async def stop(self) -> None:
        """Let what is in hand come to its end, at most `STOP_SECONDS`; what is left lapses and is rescued."""
        self._hints.forget(self._hear)
        self._stopping.set()
        self._queue_duty.woken.set()
        self._upkeep_duty.woken.set()
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
        return TURN_SECONDS if now < self._ramp_until else self._until_due(HINTED_LOOK_SECONDS if self._hints.come else LOOK_SECONDS)

    def _until_due(self, seconds: float) -> float:
        """So long at most, and no longer than until an order is due that was told of."""
        now = self._clock.now()
        while self._dues and self._dues[0] <= now:
            heappop(self._dues)
        return min(seconds, self._dues[0] - now) if self._dues else seconds

    def _hear(self, topic: str) -> None:
        due_at = due_in(topic, self._namespace)
        if due_at is not None and due_at > self._clock.now() and len(self._dues) < DUES_MAX:
            heappush(self._dues, due_at)
        if due_at is not None or topic == EVERYTHING:
            self._queue_duty.woken.set()

    async def upkeep_once(self) -> float:
        """Forget what is past its time."""
        pruned = await self._store.prune(namespace=self._namespace, limit=PRUNE_AT_ONCE)
        return 0.0 if pruned else UPKEEP_SECONDS

    async def _loop(self, duty: Duty) -> None:
        while not self._stopping.is_set():
            duty.woken.clear()
            seconds = await self._round(duty)
            if seconds > 0:
                await pause(self._stopping, seconds=min(seconds, HINT_PAUSE_SECONDS))
                await pause(duty.woken, seconds=seconds - HINT_PAUSE_SECONDS)
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
