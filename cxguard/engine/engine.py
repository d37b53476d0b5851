"""The parts that the engine works with, put together once by the guard."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cxguard.clock import Clock
from cxguard.core import names
from cxguard.core.limits import check_limits, limit
from cxguard.engine.breakers import Breakers
from cxguard.engine.epochs import Epochs
from cxguard.engine.operations import Operations
from cxguard.engine.pressure import Pressure
from cxguard.gateways.base import Gateway
from cxguard.seal import Seal
from cxguard.stores.base import gathers


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one call to a gateway may take. Seconds.

    Raises:
        ConfigurationError: a value out of its range.
    """

    attempt_seconds: float = limit(
        5.0, 0.01, 300.0, why="one charge, capture or refund: gateways answer in about one; five is a stalled one"
    )
    find_seconds: float = limit(2.0, 0.01, 60.0, why="one look-up: short, because a shopper waits for it")
    pause_seconds: float = limit(0.1, 0.0, 60.0, why="before a charge that surely did not happen is tried again; grows, with jitter")
    calls_max: int = limit(64, 1, 1_000_000_000, why="charges at one gateway at once: one that hangs must not take the whole shop with it")
    place_seconds: float = limit(0.5, 0.0, 60.0, why="how long a charge waits for a place among them; then it surely was not sent")
    retry_share: float = limit(
        0.2, 0.0, 1.0, why="second tries that each first one allows, so that a failing gateway is not asked three times as often"
    )

    def __post_init__(self) -> None:
        check_limits(self)


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
