"""One process of a small shop: real guard, engine and queue; its store is slow and lossy, and it freezes and dies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from cxguard.asgi import GuardMiddleware
from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined, PaymentDeferred, StoreError, StoreUnavailable
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Funnel, Rule, Shop, header, json_field, replay
from cxguard.testing.faulty_store import FaultyStore
from cxguard.testing.simulation.disk import Disk
from cxguard.testing.simulation.gateway import Line
from cxguard.testing.simulation.lease_ledger import LeaseLedger
from cxguard.testing.simulation.loop import Party, WorldClock, as_party, passed
from cxguard.testing.simulation.world import Plan, World

T = TypeVar("T")

SHOP = Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")
SECRET = bytes(range(32))
KEYS = [bytes(range(1, 33))]
SPOOL_FILE = "spool.db"  # its name only: what is in it is on the world's disk
COUNTED = frozenset({"order.spooled", "spool.forwarded"})
HOPS = (0.0, 0.0, 0.0, 0.002, 0.02, 0.02, 0.4)  # seconds on the way to the store or the gateway, or back
STALLS = 0.02  # of the saves of a process that stalls
START_TRIES_MAX = 50  # with a store that fails one call in twenty


HERE: ContextVar[Process] = ContextVar("cxguard_simulated_process")  # whose code runs


class DeadProcessActs(AssertionError):
    """Something of a process that is dead reached for the store or the gateway."""


class ProcessStore:
    """The shared store, as one process reaches it: each verb has a moment before and after it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._faulty = FaultyStore(LeaseLedger(world), decide=world.fault)
        self._process = process

    def __getattr__(self, verb: str) -> Any:
        there = getattr(self._faulty, verb)
        if not callable(there):
            return there
        world = self._world

        async def through(*args: Any, **named: Any) -> Any:
            await self._process.hop()
            life = world.store_life
            answer = await there(*args, **named)
            if verb == "save" and world.plan.stalls:
                self._process.stall()
            await self._process.hop()
            if life != world.store_life:
                raise StoreUnavailable("the store's server went away before its answer was here")
            return answer

        self.__dict__[verb] = through
        return through


class Process:
    """One process of the shop: web head, and sometimes a worker too."""

    def __init__(self, world: World, name: str, *, works: bool) -> None:
        self.world = world
        self.name = name
        self.works = works
        self.party = Party(name)
        self.clock = WorldClock()
        world.loop.add(self.party)
        self.died: asyncio.Future[None] = world.loop.create_future()
        self.party.on_death = self._die
        self.line = Line(world, self)
        self._looked_in = -1  # the store's life in which it last looked at the queue
        self.guard = Guard(
            ProcessStore(world, self),
            rules=[rule_of(world.plan)],
            shop=SHOP,
            gateways=[self.line],
            secret=SECRET,
            keys=KEYS,
            duties=False,
            clock=self.clock,
            listeners=[self._count],
            funnel=Funnel(pay="POST /pay") if world.plan.visits else None,
            visitor=header("x-user") if world.plan.visits else None,
            spool=SPOOL_FILE if world.plan.spool else None,
        )
        if self.guard.spool is not None:
            self.guard.spool.use(Disk(world, self))
        self.app = GuardMiddleware(self._handler, guard=self.guard)

    async def start(self) -> None:
        """As often as the store takes."""
        for _ in range(START_TRIES_MAX):
            try:
                await self.within(lambda guard: guard.start())
                break
            except StoreError:
                await passed(0.5 if self.world.away else 0.0)
        await self.guard.recorder.stop()  # it wakes twice a second, and only counts visits
        if self.works:
            self.begin(self._work())
        if self.guard.spool is not None:
            self.begin(self._forward())

    def begin(self, work: Any) -> asyncio.Task[Any]:
        """Let *work* go on in this process."""
        token = HERE.set(self)
        try:
            with as_party(self.party):
                return self.world.loop.create_task(work)
        finally:
            HERE.reset(token)

    async def within(self, call: Callable[[Guard], Awaitable[T]]) -> T:
        """Do it in this process, and wait for it.

        Raises:
            ConnectionResetError: the process died.
        """

        async def run() -> T:
            return await call(self.guard)

        return await self.outcome_of(self.begin(run()))

    async def outcome_of(self, run: asyncio.Task[T]) -> T:
        """Wait for what runs in this process. Raises as `within`."""
        waits: set[asyncio.Future[Any]] = {run, self.died}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not run.done():
            raise ConnectionResetError
        return run.result()

    def freeze(self, seconds: float) -> None:
        """It does not go on for so long: a stopped process, a long pause of a garbage collector."""
        self.party.frozen = True
        self.world.loop.call_later(seconds, self.thaw)

    def stall(self) -> None:
        """Now and then it freezes where that hurts: its line is written, and its call not made."""
        world = self.world
        if not world.calm and world.dice.random() < STALLS:
            world.happens("freeze")
            world.log(self.name, "freezes after a save")
            self.party.frozen = True
            world.spawn(self._thaw_later(world.dice.uniform(5.0, 60.0)))

    async def _thaw_later(self, seconds: float) -> None:
        await passed(seconds)
        self.thaw()

    def thaw(self) -> None:
        self.party.frozen = False

    def _die(self) -> None:
        self.world.log(self.name, "dies")
        self.world.happens("death")
        if not self.died.done():
            self.died.set_result(None)

    async def hop(self) -> None:
        """A moment in which anything may happen elsewhere."""
        world = self.world
        if self.party.dead:
            world.zombies += 1
            raise DeadProcessActs(f"{self.name} is dead")
        if world.opening:
            return
        if (seconds := 0.0 if world.calm else HOPS[int(world.dice.random() * len(HOPS))]) > 0.0:
            await passed(seconds)
        else:
            await asyncio.sleep(0)

    async def _work(self) -> None:
        queue = self.guard.queue()
        while True:
            await self._until_due()
            life = self.world.store_life
            with contextlib.suppress(StoreError):
                await queue.run_once()
                self._looked_in = life

    async def _forward(self) -> None:
        forwarding = self.guard.forwarding()
        while True:
            while not self.world.spooled():
                await self.world.stirred(float("inf"))
            await passed(1.0 if self.world.calm else self.world.dice.uniform(0.2, 3.0))
            with contextlib.suppress(StoreError):
                await forwarding.run_once()

    def _count(self, event: Event) -> None:
        if event.name in COUNTED:
            self.world.happens(f"{event.name} {event.detail.get('became', '')}".strip())

    async def _until_due(self) -> None:
        """A worker looks every few seconds. Looks that would find nothing are left out: so days are short. One after the store was
        away finds out whether it is another one."""
        world = self.world
        await passed(1.0 if world.calm else world.dice.uniform(0.5, 4.0))
        while self._looked_in == world.store_life and (seconds := await world.due_in_seconds()) > 0.0:
            if await world.stirred(seconds):
                await passed(1.0)

    async def _handler(self, scope: Any, receive: Any, send: Any) -> None:
        """The shop's own code, with habits good and bad."""
        body = json.loads((await receive())["body"])
        habit = body["habit"] if not self.world.calm else "good"
        status, content, fails = await self._serve(body, habit)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(content).encode()})
        if habit == "background":
            await passed(self.world.dice.choice([0.1, 1.0, 5.0]))
        if fails:
            raise RuntimeError("failed after a good answer")

    async def _serve(self, body: dict[str, Any], habit: str) -> tuple[int, dict[str, Any], bool]:
        if habit == "slow":
            await passed(self.world.dice.choice([1.0, 12.0, 50.0]))
        if habit == "step":
            await current_operation().step("reserve", lambda: {"reserved": True})
        try:
            payment = await self._pay(body)
        except PaymentDeclined:
            return 402, {"declined": True}, False
        except PaymentDeferred:
            if habit == "thankful":
                return 201, {"paid": "thank you"}, False
            if habit == "liar":
                return 402, {"declined": True}, False
            raise
        if habit == "liar":
            return 402, {"declined": True}, False
        if habit == "crash":
            raise RuntimeError("the order could not be written")
        return 201, {"paid": payment.payment_id}, habit == "late_failure"

    async def _pay(self, body: dict[str, Any]) -> Charged:
        op = current_operation()
        charge = Charge(body["amount"], "EUR", source="tok_ok", order_id=body["order"])
        if self.world.plan.charged_by == "guard":
            return await op.charge(charge)
        try:
            async with asyncio.timeout(4.0):
                outcome = await self.line.charge(charge, key=op.gateway_key("charge"), timeout_seconds=4.0)
        except TimeoutError:
            outcome = Unknown("no answer")
        match outcome:
            case Charged():
                return outcome
            case Declined():
                raise PaymentDeclined
            case _:
                raise RuntimeError("the payment failed")

    async def place(self, op: Any) -> dict[str, str]:
        """See `place`."""
        payment = await self._pay(op.request.json())
        return {"paid": payment.payment_id}


async def place(op: Any) -> dict[str, str]:
    """`later=`."""
    return await HERE.get().place(op)


async def ask(op: Any) -> Outcome:
    """`resolve=`: the gateway's own word about the key."""
    return await HERE.get().line.find(op.gateway_key("charge"), timeout_seconds=2.0)


LATER: dict[str, Any] = {"place": place, "replay": replay, "none": None}


def rule_of(plan: Plan) -> Rule:
    """The rule of this shop's checkout."""
    options: dict[str, Any] = {}
    if plan.charged_by == "shop":
        options = {"charged_by": "shop", "resolve": ask if plan.resolve else None, "rerun_safe": plan.keyed}
    return _rule(plan.later, derived=plan.derived, purchase=plan.purchase, **options)


@functools.cache  # a rule is a value: the same for all stories, and checking it takes longer than a request
def _rule(later: str, *, derived: bool, purchase: bool, **options: Any) -> Rule:
    return Rule(
        "POST /pay",
        owner=header("x-user"),
        key=json_field("cart") if derived else header("Idempotency-Key"),
        purchase=(json_field("cart"),) if purchase else (),
        amount_minor=json_field("amount"),
        currency="EUR",
        later=LATER[later],
        terms="1" if LATER[later] else "",
        wait_seconds=2.0,
        run_seconds_max=60.0,
        ignore_fields=("habit", "order"),
        give_up_seconds=900.0,
        duplicate_window_seconds=86_400.0,
        **options,
    )
