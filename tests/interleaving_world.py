"""The dice of one interleaving: what kind of shop it is, what goes wrong, and what was done and said, as it happened."""

from __future__ import annotations

import asyncio
import random
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from virtual_time import LoopClock

from cxguard.core.operation import Operation
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import Fault
from cxguard.testing.fake_gateway import Does, FakeGateway

if TYPE_CHECKING:
    from interleaving_process import Process

ACTIVE_SECONDS = 150.0  # how long shoppers come and things break
MOODS = {
    Does.CHARGE: 50,
    Does.CHARGE_THEN_UNKNOWN: 12,
    Does.UNKNOWN: 8,
    Does.NOT_CHARGED: 8,
    Does.DECLINE: 10,
    Does.NEEDS_SHOPPER: 6,
    Does.REFUSE: 2,
    Does.RAISE: 4,
}
ASKING: ContextVar[int] = ContextVar("asking", default=0)  # which submit a call to the gateway belongs to


@dataclass(frozen=True)
class Plan:
    """What kind of shop a seed has."""

    keyed: bool = True
    charged_by: str = "guard"
    derived: bool = False
    purchase: bool = False
    later: str = "place"  # place, replay, none
    resolve: bool = True
    stalls: bool = True
    store_faults: float = 0.02

    @classmethod
    def dealt(cls, dice: random.Random) -> Plan:
        return cls(
            keyed=dice.random() < 0.7,
            charged_by="shop" if dice.random() < 0.35 else "guard",
            derived=dice.random() < 0.4,
            purchase=dice.random() < 0.3,
            later=dice.choice(["place", "place", "replay", "none"]),
            resolve=dice.random() < 0.7,
            stalls=dice.random() < 0.5,
            store_faults=dice.choice([0.0, 0.02, 0.06]),
        )


@dataclass
class Landing:
    """One charge (or pending payment) that a call made, seen from the gateway."""

    payment: str
    key: str
    order: str
    sent_at: float
    asking: int
    stood_at: float | None  # since when the money is taken; None: it never was
    gone_at: float | None = None


@dataclass
class Said:
    """One answer that a shopper got."""

    asking: int
    order: str
    began_at: float
    at: float
    status: int
    body: dict[str, Any]
    what: str


class World:
    """Store, gateway, processes, and the dice."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        random.seed(seed)  # jitter of the engine and of tenacity
        self.dice = random.Random(seed)
        self.plan = plan or Plan.dealt(self.dice)
        self.clock = LoopClock()
        self.memory = MemoryStore(clock=self.clock)
        self.fake = FakeGateway(keyed=self.plan.keyed)
        self.landings: list[Landing] = []
        self.said: list[Said] = []
        self.clicks: list[Any] = []
        self.links: dict[str, str] = {}
        self.calm = False
        self.bad_until = 0.0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.processes: list[Process] = []
        self.graves: list[Process] = []
        self._asked = 0
        self.trace: list[str] = []

    def log(self, *what: Any) -> None:
        self.trace.append(f"{self.clock.monotonic():8.2f} " + " ".join(str(each) for each in what))

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        return task

    def next_asking(self) -> int:
        self._asked += 1
        return self._asked

    def fault(self, verb: str) -> Fault | None:
        if self.calm or self.dice.random() >= self.plan.store_faults:
            return None
        return self.dice.choice(list(Fault))

    def mood(self) -> Does:
        if self.calm:
            return Does.CHARGE
        if self.clock.monotonic() < self.bad_until:
            return self.dice.choice([Does.NOT_CHARGED, Does.NOT_CHARGED, Does.UNKNOWN, Does.CHARGE_THEN_UNKNOWN, Does.THROTTLE])
        return self.dice.choices(
            list(MOODS),
            list(MOODS.values()),
        )[0]

    def alive(self) -> Process:
        return self.dice.choice([each for each in self.processes if not each.dead])

    async def operations(self) -> list[Operation]:
        found = []
        query = Query(namespace="shop", limit=200)
        while True:
            page = await self.memory.search(query)
            found.extend(page.operations)
            if page.cursor is None:
                return found
            query = Query(namespace="shop", limit=200, after=page.cursor)
