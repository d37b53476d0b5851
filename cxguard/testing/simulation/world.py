"""The dice of one story: what kind of shop it is, what goes wrong, and what was done and said, as it happened."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from cxguard.core.operation import Operation, State
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import Fault
from cxguard.testing.simulation.loop import PARTY, WORLD, SeededLoop, WorldClock, over, passed

if TYPE_CHECKING:
    from cxguard.testing.simulation.process import Process

T = TypeVar("T")

ACTIVE_SECONDS = 40.0  # how long shoppers come and things break
SMALL_SECONDS = 4.0  # within which the shoppers of a small story come, and things break
SMALL_SHARE = 0.85  # of the stories: most bugs need one purchase, a second press and a fault or two; others take more than twice as long
PAGE = 200  # records of one look at the whole store
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
SMALL_MOODS = {**MOODS, Does.CHARGE: 30}  # a story of one purchase that just goes well shows little
BAD_MOODS = (Does.NOT_CHARGED, Does.UNKNOWN, Does.CHARGE_THEN_UNKNOWN, Does.CHARGE_THEN_UNKNOWN, Does.THROTTLE)
ASKING: ContextVar[int] = ContextVar("cxguard_simulated_asking", default=0)  # which submit a call to the gateway belongs to


class Striking(StrEnum):
    """What strikes at a chosen point."""

    CRASH = "crash"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Strike:
    """At the turn *at* of a process's *life* (0: its first one), or at the await *at* of all requests, counted from 1."""

    striking: Striking
    at: int
    process: int = 0
    life: int = 0


@dataclass(frozen=True)
class Plan:
    """What kind of shop a seed has, and what befalls it.

    Attributes:
        keyed: the gateway honours keys: the outer guard. Off, the guard's own leases stand alone.
        store_jumps: the clock of the store is set, forward and back.
        store_restarts: the store's server is away now and then, and comes back as it was.
        loses_tail: an older copy of the store takes over now and then: its last acknowledged writes are lost.
        spool: the shop's machine has a spool, and the store is away for longer; now and then the power is cut.
        visits: what shoppers meet is written to their visits, and looked for there.
        strikes: what strikes where; None: nothing does, and no awaits are counted.
        trouble: freezes, deaths, outages, clients that leave, clocks that are set. Off, only charges and stores fail.
        small: a purchase or two in one process or two, and a fault or two. Otherwise a busy shop on a bad day.
    """

    keyed: bool = True
    charged_by: str = "guard"
    derived: bool = False
    purchase: bool = False
    later: str = "place"  # place, replay, none
    resolve: bool = True
    stalls: bool = True
    store_faults: float = 0.02
    by_priority: bool = False
    store_jumps: bool = False
    store_restarts: bool = False
    loses_tail: bool = False
    spool: bool = False
    visits: bool = False
    shoppers_max: int = 3
    trouble: bool = True
    small: bool = False
    strikes: tuple[Strike, ...] | None = None

    @classmethod
    def dealt(cls, dice: random.Random) -> Plan:
        """By the dice. What freezes excuses is rarer in small stories, so that they see more with less."""
        small = dice.random() < SMALL_SHARE
        return cls(
            keyed=dice.random() < 0.7,
            charged_by="shop" if dice.random() < 0.35 else "guard",
            derived=dice.random() < 0.4,
            purchase=dice.random() < 0.3,
            later=dice.choice(["place", "place", "replay", "none"]),
            resolve=dice.random() < 0.7,
            stalls=dice.random() < (0.25 if small else 0.5),
            store_faults=dice.choice([0.0, 0.02, 0.06]),
            by_priority=dice.random() < 0.3,
            store_jumps=dice.random() < 0.2,
            store_restarts=dice.random() < 0.15,
            loses_tail=dice.random() < 0.15,
            small=small,
            spool=dice.random() < 0.15,
            visits=dice.random() < 0.15,
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


@dataclass(frozen=True)
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
    """Store, gateway, processes, and the dice.

    Attributes:
        happened: how often each fault and each turn of an order really came about.
        opening, calm: before the first shopper, in a small story, and after the last fault: nothing goes wrong.
        zombies: how often a process that was dead still reached for the store or the gateway.
        leases, broken: the newest lease of each record and its end in true time, and what was wrong with leases.
        overlapping: the records of which two leases lived at once, because the store's clock was set.
        away, store_life: whether the store's server is away, and how often it has begun anew.
        lost, taken_back: the references of the records that it has lost, and the ids of all that are an older copy, or gone.
        keys: which record each gateway key belongs to.
        told_of: the payments of which a webhook was taken in: the gateway tells of them no more.
    """

    def __init__(self, seed: int, plan: Plan | None = None, *, change: Callable[[Plan], Plan] | None = None) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        dealt = plan or Plan.dealt(self.dice)
        self.plan = change(dealt) if change is not None else dealt
        self.loop = SeededLoop(random.Random(f"loop {seed}"), by_priority=self.plan.by_priority)  # type: ignore[abstract]
        self.clock = WorldClock()
        self.store_clock = WorldClock()
        self.memory = MemoryStore(clock=self.store_clock)
        self.spool = MemoryStore(clock=self.clock) if self.plan.spool else None
        self.fake = FakeGateway(keyed=self.plan.keyed)
        self.landings: list[Landing] = []
        self.said: list[Said] = []
        self.cancelled: list[Said] = []  # who was told that the wish to cancel is known
        self.clicks: list[Any] = []
        self.links: dict[str, str] = {}
        self.calm = False
        self.opening = False
        self.bad_until = 0.0
        self.processes: list[Process] = []
        self.happened: Counter[str] = Counter()
        self.zombies = 0
        self.leases: dict[str, tuple[int, float]] = {}
        self.states: dict[str, State] = {}  # of each record, as it was last written
        self.in_hand: dict[str, tuple[int, State]] = {}  # token and state of what its holder goes on with, after a tail was lost
        self.broken: list[str] = []
        self.overlapping: set[str] = set()
        self.errors: list[tuple[Process, Said]] = []  # that a shopper was shown, and by which process
        self.away = False
        self.store_life = 0
        self.lost: set[str] = set()
        self.taken_back: set[str] = set()
        self.keys: dict[str, str] = {}
        self.told_of: set[str] = set()
        self.charges = 0  # calls to the gateway
        self.awaits = 0  # of all requests, before the last fault
        self.at_rest: frozenset[str] = frozenset()  # references, before everybody pressed once more
        self.rested_at = 0.0
        self.turns: tuple[int, ...] = ()  # of the first processes, until then
        self._asked = 0
        self._waiting: list[asyncio.Future[bool | None]] = []
        self._told: list[tuple[float, tuple[Any, ...]]] = []

    def log(self, *what: Any) -> None:
        """One line of the story."""
        self._told.append((self.clock.monotonic(), what))

    @property
    def timeline(self) -> list[str]:
        """The story, line by line."""
        return [f"{at:8.2f} " + " ".join(str(each) for each in what) for at, what in self._told]

    @property
    def digest(self) -> str:
        """Equal for equal stories."""
        return hashlib.sha256("\n".join(self.timeline).encode()).hexdigest()[:16]

    def happens(self, what: str) -> None:
        """Count that a fault or a turn has come about."""
        self.happened[what] += 1

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let something of the world go on by itself, whichever process begins it."""
        context = copy_context()
        context.run(PARTY.set, WORLD)
        return self.loop.create_task(work, context=context)

    def next_asking(self) -> int:
        self._asked += 1
        return self._asked

    def fault(self, verb: str) -> Fault | None:
        """What goes wrong with the next call to the store."""
        if self.away:
            return Fault.NOT_DONE
        if self.calm or self.opening or self.dice.random() >= self.plan.store_faults:
            return None
        fault = self.dice.choice(list(Fault))
        self.happens(f"store {fault}")
        return fault

    def disk_fault(self, verb: str) -> Fault | None:
        """What goes wrong with the next call to the spool's disk."""
        if self.calm or self.opening or verb in ("start", "stop") or self.dice.random() >= self.plan.store_faults / 2:
            return None
        self.happens("disk fault")
        return self.dice.choice(list(Fault))

    def spooled(self) -> int:
        """How many orders and facts wait in the spool."""
        return len(self.spool.records) if self.spool is not None else 0

    @property
    def outage(self) -> bool:
        """Whether the gateway has a bad time."""
        return self.clock.monotonic() < self.bad_until

    def mood(self) -> Does:
        """What the gateway does with the next charge."""
        if self.calm:
            return Does.CHARGE
        moods = SMALL_MOODS if self.plan.small else MOODS
        does = self.dice.choice(BAD_MOODS) if self.outage else self.dice.choices(list(moods), list(moods.values()))[0]
        self.happens(f"gateway {does}")
        return does

    async def alive(self) -> Process:
        """Any process that has not died; when all have, the first that is there again."""
        while not (alive := [each for each in self.processes if not each.party.dead]):
            await passed(0.25)
        return self.dice.choice(alive)

    async def operations(self) -> list[Operation]:
        """All that the store has."""
        found: list[Operation] = []
        query = Query(namespace="shop", limit=PAGE)
        while True:
            page = await self.memory.search(query)
            found.extend(page.operations)
            if page.cursor is None:
                return found
            query = Query(namespace="shop", limit=PAGE, after=page.cursor)

    async def due_in_seconds(self) -> float:
        """Until a worker may have something; infinite: there is nothing to do ever."""
        ripe = [at for record in self.memory.records if (at := ripe_at(record)) is not None]
        return min(ripe, default=float("inf")) - self.store_clock.now()

    def stir(self) -> None:
        """The store was written to: whoever waits looks again at what is due."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(True)

    async def stirred(self, seconds: float) -> bool:
        """Wait so long, or until the store is written to; whether it was."""
        future: asyncio.Future[bool | None] = self.loop.create_future()  # None: the time is over
        self._waiting.append(future)
        if seconds < float("inf"):
            self.loop.call_later(seconds, over, future)
        return bool(await future)


def ripe_at(operation: Operation) -> float | None:
    """When a worker may have it; None: never. What has no rule is a person's, also when somebody who had it in hand has died."""
    if not operation.rule:
        return None
    return operation.lease.until if operation.lease is not None else operation.due_at
