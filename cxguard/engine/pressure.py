"""How hard a gateway is pressed: how many calls at once, and how many of them are second tries.

A gateway that hangs must not take every worker of the shop with it, and one that fails must not be asked three times as
often as before. Charges have places of their own, so that looking up and giving back never wait behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

CHARGE, OTHER = "charge", "other"
OTHERS_PER_CHARGE = 4  # places for look-ups, captures and refunds: a quarter of those for charges, and at least so many
RETRIES_AT_ONCE_MAX = 20.0  # second tries that are saved up while all is well

Places = dict[tuple[str, str], asyncio.Semaphore]


class Pressure:
    """The places and the saved-up second tries of every gateway, in this process.

    Args:
        calls_max: charges at one gateway at the same time, in one event loop.
        wait_seconds: how long a call waits for a place.
        retry_share: second tries that each first one allows.
    """

    def __init__(self, *, calls_max: int, wait_seconds: float, retry_share: float) -> None:
        self._calls_max = calls_max
        self._wait_seconds = wait_seconds
        self._retry_share = retry_share
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, Places] = WeakKeyDictionary()
        self._retries: dict[str, float] = {}

    @asynccontextmanager
    async def place(self, gateway: str, kind: str = OTHER) -> AsyncIterator[bool]:
        """A place for one call while the block runs; False: none became free in time, so nothing may be called."""
        places = self._of(gateway, kind)
        if not await self._taken(places):
            yield False
            return
        try:
            yield True
        finally:
            places.release()

    def tried(self, gateway: str) -> None:
        """A first try: it allows its share of a second one."""
        self._retries[gateway] = min(self._retries.get(gateway, RETRIES_AT_ONCE_MAX) + self._retry_share, RETRIES_AT_ONCE_MAX)

    def may_try_again(self, gateway: str) -> bool:
        """Whether a second try is still saved up; it is spent with the asking."""
        saved = self._retries.get(gateway, RETRIES_AT_ONCE_MAX)
        if saved < 1.0:
            return False
        self._retries[gateway] = saved - 1.0
        return True

    def _of(self, gateway: str, kind: str) -> asyncio.Semaphore:
        places = self._places.setdefault(asyncio.get_running_loop(), {})
        found = places.get((gateway, kind))
        if found is None:
            count = self._calls_max if kind == CHARGE else max(OTHERS_PER_CHARGE, self._calls_max // OTHERS_PER_CHARGE)
            found = places[gateway, kind] = asyncio.Semaphore(count)
        return found

    async def _taken(self, places: asyncio.Semaphore) -> bool:
        if not places.locked():
            await places.acquire()  # at once
            return True
        try:
            async with asyncio.timeout(self._wait_seconds):
                await places.acquire()
        except TimeoutError:
            return False
        return True
