"""So many places for calls, across every event loop and thread that uses them.

A guard may be used from several loops at once (a sync view's own, a worker's), and a gateway does not care which one a call
comes from: so places are counted under a lock, and handed to whoever waited longest, in its own loop. A waiter that is
cancelled or late gives back a place that was handed to it in that very moment.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field

WAITERS_MAX = 1_000  # each waits for a fraction of a second; more than that come only in a flood


@dataclass(slots=True, eq=False)
class _Waiter:
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]
    has_place: bool = False


@dataclass(slots=True)
class Bulkhead:
    """So many places, given in the order of asking."""

    places: int
    taken: int = 0
    _waiters: deque[_Waiter] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    async def enter(self, *, wait_seconds: float) -> bool:
        """Take a place, at once or within *wait_seconds*. True: it has to be given back with `leave`."""
        with self._lock:
            if self.taken < self.places:
                self.taken += 1
                return True
            if wait_seconds <= 0 or len(self._waiters) >= WAITERS_MAX:
                return False
            loop = asyncio.get_running_loop()
            waiter = _Waiter(loop, loop.create_future())
            self._waiters.append(waiter)
        try:
            async with asyncio.timeout(wait_seconds):
                await waiter.woken
        except TimeoutError:
            return self._has_place(waiter)
        except BaseException:
            if self._has_place(waiter):
                self.leave()
            raise
        return True

    def leave(self) -> None:
        """Give a place back: to whoever has waited longest."""
        with self._lock:
            while self._waiters:
                waiter = self._waiters.popleft()
                try:
                    waiter.loop.call_soon_threadsafe(_wake, waiter.woken)
                except RuntimeError:  # its loop was closed: nobody waits there any more
                    continue
                waiter.has_place = True
                return
            self.taken -= 1

    def _has_place(self, waiter: _Waiter) -> bool:
        """Whether one was handed over in the very moment in which the waiter stopped waiting. Otherwise it waits no more."""
        with self._lock:
            if not waiter.has_place and waiter in self._waiters:
                self._waiters.remove(waiter)
            return waiter.has_place


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
