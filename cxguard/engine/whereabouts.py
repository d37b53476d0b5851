"""Whether the store is the shop's: one whose orders were moved to another one is not worked on any more, and one that they
are being moved to is not worked on yet."""

from __future__ import annotations

from cxguard.clock import Clock, SharedClock
from cxguard.core.relocation import Relocation, Stage
from cxguard.errors import ConfigurationError, OrdersArriving, StoreRelocated, StoreUnavailable
from cxguard.stores.base import Store

NOTICE_SECONDS = 5.0  # how long a process may go on after a move began; one small read in so much time
MARKER = "relocation"


def marker_key(namespace: str) -> str:
    """Where a store keeps what it says of its own move."""
    return f"{MARKER}:{namespace}"


async def relocation_of(store: Store, *, namespace: str) -> Relocation | None:
    """What the store says of its own move; None: it was not moved."""
    return Relocation.from_bytes((await store.load(marker_key(namespace))).value)


async def refuse_relocated(store: Store, *, namespace: str) -> None:
    """Refuse to start on a store whose orders are elsewhere.

    Raises:
        ConfigurationError: they were moved.
        StoreRelocated, OrdersArriving: they are being moved now, from here or to here: start again when that is done.
    """
    relocation = await relocation_of(store, namespace=namespace)
    if relocation is not None and relocation.stage is Stage.MOVED:
        raise ConfigurationError(f'the orders of this store were moved to {relocation.to}: write Guard("{relocation.to}", ...)')
    if relocation is not None:
        raise _elsewhere(relocation)


def _elsewhere(relocation: Relocation) -> StoreUnavailable:
    return OrdersArriving(relocation.to) if relocation.stage is Stage.ARRIVING else StoreRelocated(relocation.to)


class Whereabouts:
    """Asked before anything is begun on the store; looks at the store once in `NOTICE_SECONDS`."""

    def __init__(self, store: Store, clock: Clock, *, namespace: str) -> None:
        self._store = store
        self._clock = clock
        self._namespace = namespace
        self._good_until = float("-inf")

    async def check(self, *, fact: bool = False) -> None:
        """Raise while the orders are elsewhere.

        Args:
            fact: something that happened is to be noted: that is still carried after its order while it is being moved.

        Raises:
            StoreRelocated, OrdersArriving: nothing may be begun here.
            StoreUnavailable: it is not known, so nothing may be begun either.
        """
        if isinstance(self._clock, SharedClock):  # what is begun is dated by the store's clock
            await self._clock.follow(self._store.clock)
        asked_at = self._clock.monotonic()
        if asked_at < self._good_until:
            return
        relocation = await relocation_of(self._store, namespace=self._namespace)
        if relocation is None:
            self._good_until = asked_at + NOTICE_SECONDS
        elif not (fact and relocation.stage is not Stage.MOVED):  # what comes to a store before its order joins it there
            raise _elsewhere(relocation)
