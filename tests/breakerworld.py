"""Breakers of several processes on one store, the processes played by several `Breakers` in one loop, without time passing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.breaker_shared import Name
from cxguard.core.outcomes import Charged, Outcome, Unknown
from cxguard.engine.breaker_sharing import Sharing
from cxguard.engine.breakers import Breakers, Ticket
from cxguard.engine.hints import Hints
from cxguard.events import Bus, Event
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.faulty_store import FaultyStore

CHARGED, SILENT = Charged(4999, "EUR"), Unknown("no answer in time")
CARDS: Name = ("cards", "charge", "")
QUICK = BreakerPolicy(probe_pause_seconds=0.0, turn_seconds=0.0)


class Process:
    """One process: its breakers, and how it shares them. `look` is a round that its task would make."""

    def __init__(self, store: FaultyStore, clock: ManualClock, name: str, policy: BreakerPolicy, *, jitter: float = 0.0) -> None:
        self.events: list[Event] = []
        bus = Bus()
        bus.listen(self.events.append)
        self.breakers = Breakers(policy, clock, bus=bus, jitter=lambda: 0.0)
        self.hints = Hints(MemoryStore(clock=clock), clock, process=name)
        self.sharing = Sharing(self.breakers, store, clock, namespace="shop", process=name, hints=self.hints, jitter=lambda: jitter)
        self.breakers.share(self.sharing)

    async def call(self, *outcomes: Outcome) -> int:
        went = 0
        for outcome in outcomes:
            ticket = await self.breakers.enter("cards", "charge")
            if isinstance(ticket, Ticket):
                ticket.settle(outcome, 0.1)
                went += 1
        return went

    async def look(self) -> None:
        await self.sharing.look()

    @property
    def label(self) -> Label:
        return next((view.label for view in self.breakers.states() if (view.gateway, view.kind) == CARDS[:2]), Label.CLOSED)

    @property
    def apart(self) -> bool:
        return any(view.apart for view in self.breakers.states())


class World:
    def __init__(self, processes: int, policy: BreakerPolicy) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.policy = policy
        self.all = [Process(self.store, self.clock, f"p{number}", policy) for number in range(processes)]

    async def look(self) -> None:
        """Everybody tells, then everybody hears."""
        for _ in range(2):
            for process in self.all:
                await process.look()

    @property
    def labels(self) -> set[Label]:
        return {process.label for process in self.all}

    async def trip(self) -> None:
        for process in self.all:
            await process.call(*[SILENT] * (1 + self.policy.consecutive_failures // len(self.all)))
        await self.look()
        assert self.labels == {Label.OPEN}


@asynccontextmanager
async def world(processes: int = 4, policy: BreakerPolicy = QUICK) -> AsyncIterator[World]:
    made = World(processes, policy)
    await made.look()
    yield made
