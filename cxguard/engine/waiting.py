"""Wait for somebody else's operation: woken in this process, looked at now and then for the others."""

from __future__ import annotations

import asyncio

from cxguard.clock import Clock
from cxguard.core.operation import Operation
from cxguard.stores.base import Store

LOOK_SECONDS = 0.25  # how often a record that another process holds is looked at
LOOKS_PER_SECOND_MAX = 400  # of all who wait: ten thousand clicks on one button must not be forty thousand reads a second
WAITERS_MAX = 10_000  # duplicates that may wait at once; more are told "in flight" at once


class Waiting:
    """Who waits for which operation, in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._count = 0

    def ended(self, id: str) -> None:
        """Wake everybody who waits for *id*. From any thread."""
        for waiter in tuple(self._waiters.get(id, ())):
            waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def for_change(self, store: Store, seen: Operation, *, seconds: float) -> bool:
        """Wait until the record is no longer held as it was seen. False: the time is over, or too many wait already."""
        if self._count >= WAITERS_MAX:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(seen.id, set()).add(waiter)
        self._count += 1
        try:
            async with asyncio.timeout(seconds):
                return await self._until_changed(store, seen, waiter)
        except TimeoutError:
            return False
        finally:
            self._count -= 1
            self._forget(seen.id, waiter)

    @property
    def look_seconds(self) -> float:
        """Between two looks of one who waits: longer, the more there are."""
        return max(LOOK_SECONDS, self._count / LOOKS_PER_SECOND_MAX)

    async def _until_changed(self, store: Store, seen: Operation, waiter: asyncio.Future[None]) -> bool:
        while True:
            there = await store.get(seen.id)
            if there is None or _moved_on(there, seen):
                self.ended(seen.id)  # one looks for all
                return True
            done, _ = await asyncio.wait({waiter}, timeout=self.look_seconds)
            if done or self._lapsed(there):
                return True

    def _lapsed(self, there: Operation) -> bool:
        """Its holder is gone, as far as our clock can say: the store, asked again, knows."""
        return there.lease is not None and there.lease.until <= self._clock.now()

    def _forget(self, id: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(id, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiters.pop(id, None)


def _moved_on(there: Operation, seen: Operation) -> bool:
    """Its lease ended or went to another."""
    mine, now = seen.lease, there.lease
    return now is None or mine is None or now.token != mine.token


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
