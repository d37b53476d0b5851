"""The parts that the engine works with, put together once by the guard."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cxguard.clock import Clock
from cxguard.core import names
from cxguard.engine.breakers import Breakers
from cxguard.engine.epochs import Epochs
from cxguard.engine.operations import Operations
from cxguard.engine.pressure import Pressure
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import Gateway
from cxguard.seal import Seal
from cxguard.stores.base import gathers


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one call to a gateway may take. Seconds.

    Attributes:
        attempt_seconds: one charge, capture or refund. Gateways answer in about one; five is a stalled one.
        find_seconds: one look-up: short, because a shopper waits for it.
        pause_seconds: before a charge that surely did not happen is tried again; grows, with jitter.
        calls_max: charges at one gateway at the same time: one that hangs must not take the whole shop with it.
        place_seconds: how long a charge waits for a place among them; then it surely was not sent.
        retry_share: second tries that each first one allows, so that a failing gateway is not asked three times as often.
    """

    attempt_seconds: float = 5.0
    find_seconds: float = 2.0
    pause_seconds: float = 0.1
    calls_max: int = 64
    place_seconds: float = 0.5
    retry_share: float = 0.2

    def __post_init__(self) -> None:
        if self.calls_max < 1 or self.place_seconds < 0 or not 0 <= self.retry_share <= 1:
            raise ConfigurationError(
                f"calls_max={self.calls_max!r}, place_seconds={self.place_seconds!r}, retry_share={self.retry_share!r}: write "
                "Timeouts(calls_max=64, place_seconds=0.5, retry_share=0.2); at least one call, no negative time, a share from 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class Engine:
    """Store, seals, gateways, breakers and clock of one guard."""

    operations: Operations
    seal: Seal
    naming: bytes = field(repr=False)
    gateways: Mapping[str, Gateway]
    breakers: Breakers
    pressure: Pressure
    epochs: Epochs
    timeouts: Timeouts = field(default_factory=Timeouts)
    jitter: Callable[[], float] = random.random

    @property
    def clock(self) -> Clock:
        """The guard's clock."""
        return self.operations.clock

    def operation_id(self, *, purpose: str, owner: str, key: str) -> str:
        """The id of an operation of this guard, in the way that its store finds records by."""
        namespace, home = self.operations.namespace, owner if self.gathers else None
        return names.operation_id(self.naming, namespace=namespace, purpose=purpose, owner=owner, key=key, home=home)

    @property
    def gathers(self) -> bool:
        """Whether the store keeps together what belongs to one owner."""
        return gathers(self.operations.store)

    def gateway(self, name: str) -> Gateway | None:
        """The gateway of exactly this name: account and mode are part of it, so a sandbox never answers for live money."""
        return self.gateways.get(name)
