"""How hard a gateway is pressed: how many calls at once, and how many of them are second tries.

A gateway that hangs must not take every worker of the shop with it, and one that fails must not be asked three times as
often as before. Charges have places of their own, so that looking up and giving back never wait behind them.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cxguard.engine.bulkheads import Bulkhead

CHARGE, OTHER = "charge", "other"
OTHERS_PER_CHARGE = 4  # places for look-ups, captures and refunds: a quarter of those for charges, and at least so many
RETRIES_AT_ONCE_MAX = 20.0  # second tries that are saved up while all is well


class Pressure:
    """The places and the saved-up second tries of every gateway, in this process.

    Args:
        calls_max: charges at one gateway at the same time.
        wait_seconds: how long a call waits for a place.
        retry_share: second tries that each first one allows.
    """

    def __init__(self, *, calls_max: int, wait_seconds: float, retry_share: float) -> None:
        self._calls_max = calls_max
        self._wait_seconds = wait_seconds
        self._retry_share = retry_share
        self._bulkheads: dict[tuple[str, str], Bulkhead] = {}
        self._retries: dict[str, float] = {}
        self._lock = threading.Lock()

    @asynccontextmanager
    async def place(self, gateway: str, kind: str = OTHER, *, remaining_seconds: float = float("inf")) -> AsyncIterator[bool]:
        """A place for one call while the block runs; False: none became free in time, so nothing may be called.

        Args:
            remaining_seconds: until the caller must have an answer: it waits no longer than that.
        """
        bulkhead = self._of(gateway, kind)
        free = await bulkhead.enter(wait_seconds=min(self._wait_seconds, remaining_seconds))
        try:
            yield free
        finally:
            if free:
                bulkhead.leave()

    def tried(self, gateway: str) -> None:
        """A first try: it allows its share of a second one."""
        with self._lock:
            self._retries[gateway] = min(self._saved(gateway) + self._retry_share, RETRIES_AT_ONCE_MAX)

    def may_try_again(self, gateway: str) -> bool:
        """Whether a second try is still saved up; it is spent with the asking. Where the share is 0, there is none."""
        with self._lock:
            saved = self._saved(gateway)
            if saved < 1.0 or not self._retry_share:
                return False
            self._retries[gateway] = saved - 1.0
            return True

    def _saved(self, gateway: str) -> float:
        return self._retries.get(gateway, RETRIES_AT_ONCE_MAX)

    def _of(self, gateway: str, kind: str) -> Bulkhead:
        known = self._bulkheads.get((gateway, kind))
        if known is None:
            places = self._calls_max if kind == CHARGE else max(OTHERS_PER_CHARGE, self._calls_max // OTHERS_PER_CHARGE)
            known = self._bulkheads.setdefault((gateway, kind), Bulkhead(places))
        return known
