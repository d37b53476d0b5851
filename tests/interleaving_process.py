"""One process of a small shop: real guard, engine and queue; its store is slow and lossy, and it freezes and dies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from interleaving_gateway import Line
from interleaving_world import World
from shopworld import KEYS, SECRET, SHOP
from virtual_time import passed

from cxguard.asgi import GuardMiddleware
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined, PaymentDeferred, StoreError
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule, header, json_field, replay
from cxguard.testing import FaultyStore


class ProcessStore:
    """The shared store, as one process reaches it: each verb has a moment before and after it."""

    def __init__(self, world: World, process: Process) -> None:
        self._faulty = FaultyStore(world.memory, decide=world.fault)
        self._process = process

    def __getattr__(self, verb: str) -> Any:
        there = getattr(self._faulty, verb)
        if not callable(there):
            return there

        async def through(*args: Any, **named: Any) -> Any:
            await self._process.hop()
            answer = await there(*args, **named)
            await self._process.hop()
            return answer

        return through


class Process:
    """One process of the shop: web head, and sometimes a worker too."""

    def __init__(self, world: World, name: str, *, works: bool) -> None:
        self.world = world
        self.name = name
        self.works = works
        self.dead = False
        self.buried = False
        self.stalled_until = 0.0
        self.line = Line(world, self)
        self.tasks: list[asyncio.Task[Any]] = []
        self.guard = Guard(
            ProcessStore(world, self),  # type: ignore[arg-type]
            rules=[rule_of(world, self)],
            shop=SHOP,
            gateways=[self.line],
            secret=SECRET,
            keys=KEYS,
            duties=False,
            clock=world.clock,
        )
        self.app = GuardMiddleware(self._handler, guard=self.guard)

    async def start(self) -> None:
        for _ in range(50):
            try:
                await self.guard.start()
                break
            except StoreError:
                continue
        self.guard.engine.operations.leases.stop()  # the thread lives in real time; here it beats in virtual time
        await self.guard.recorder.stop()  # it only counts visits
        self.tasks = [self.world.spawn(self._beat())]
        if self.works:
            self.tasks.append(self.world.spawn(self._work()))

    async def hop(self) -> None:
        """A moment in which anything may happen elsewhere; a frozen process stays in it, a dead one for ever."""
        dice, clock = self.world.dice, self.world.clock
        if self.buried:
            raise asyncio.CancelledError
        await passed(0.0 if self.world.calm else dice.choice([0.0, 0.0, 0.0, 0.002, 0.02, 0.02, 0.4]))
        while clock.monotonic() < self.stalled_until and not self.buried:
            await passed(self.stalled_until - clock.monotonic())
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def _beat(self) -> None:
        while True:
            await passed(5.0)
            try:
                await self.guard.engine.operations.leases.renew_once()
            except StoreError:
                continue

    async def _work(self) -> None:
        while True:
            await passed(await self._pause_seconds())
            try:
                await self.guard.queue().run_once()
            except StoreError:
                continue

    async def _pause_seconds(self) -> float:
        """Between two looks at the queue; when all is calm, until something is due, so that days are short."""
        pause = self.world.dice.uniform(0.5, 3.0)
        if not self.world.calm:
            return pause
        due = [at for operation in await self.world.operations() if (at := ripe_at(operation)) is not None]
        return max(pause, min(due, default=0.0) - self.world.clock.now())

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
        """`later=`."""
        payment = await self._pay(op.request.json())
        return {"paid": payment.payment_id}

    async def ask(self, op: Any) -> Outcome:
        """`resolve=`: the gateway's own word about the key."""
        return await self.line.find(op.gateway_key("charge"), timeout_seconds=2.0)

    async def die(self) -> None:
        self.dead = True
        self.world.log(self.name, "dies")

    def bury(self) -> None:
        self.buried = True


def rule_of(world: World, process: Process) -> Rule:
    plan = world.plan
    later: Any = {"place": process.place, "replay": replay, "none": None}[plan.later]
    options: dict[str, Any] = {}
    if plan.charged_by == "shop":
        options = {"charged_by": "shop", "resolve": process.ask if plan.resolve else None, "rerun_safe": plan.keyed}
    return Rule(
        "POST /pay",
        owner=header("x-user"),
        key=json_field("cart") if plan.derived else header("Idempotency-Key"),
        purchase=(json_field("cart"),) if plan.purchase else (),
        amount_minor=json_field("amount"),
        currency="EUR",
        later=later,
        terms="1" if later else "",
        wait_seconds=2.0,
        run_seconds_max=60.0,
        ignore_fields=("habit", "order"),
        give_up_seconds=3600.0,
        duplicate_window_seconds=86_400.0,
        **options,
    )


def ripe_at(operation: Operation) -> float | None:
    """When a worker may have it."""
    if operation.lease is not None:
        return operation.lease.until
    return operation.due_at if operation.rule else None
