"""One seeded run of payments used as a library: charges, time-outs, webhooks, retries, refunds, crashes, in any order.

Real guard, engine, queue and memory store; the gateway, its books and the judge are independent of the product: they know
no outcome, no fold and no record, only which requests arrived and what they did.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from payment_books import AMOUNT, FATES, HAPPENED, OFTEN, Adapter, Books, Line, Process, ProcessStore, told
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.money import MoneyState
from cxguard.core.operation import Operation, State, WaitingFor, money_of
from cxguard.core.outcomes import Charged, NotCharged
from cxguard.engine.engine import Timeouts
from cxguard.engine.library import Purpose
from cxguard.engine.reconciling import reconcile
from cxguard.errors import CxguardError, PaymentDeclined
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock

STEPS = (8, 20)
ACTS = ("pay", "pay", "work", "webhook", "land", "refund", "all_back", "move", "returned", "look", "time", "crash")
REST_ROUNDS_MAX = 80
RARELY = 0.25
PARCEL = 2000
MUST_HAPPEN = (*FATES, "landed late", "crash", "webhook", "refunded", "second gateway", "paid", "declined", "held", "finished")
MUST_HAPPEN += ("returned", "parcel", "released", "break", "charged", "sold out", "all of it back")


class SoldOut(Exception):
    """What a shop's own function raises after its charge."""


@dataclass
class Said:
    """What a caller was told about an order, and what the books said at that moment."""

    order: str
    word: str  # charged (by `op.charge`), paid (by the run as a whole), declined
    stood: int
    returned: int


class Run:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.clock = ManualClock()
        self.store = MemoryStore(clock=self.clock)
        self.keyed = self.dice.random() < 0.7
        self.books = [Books(self.dice, "first:test", self.keyed), Books(self.dice, "second:test", self.keyed)]
        self.orders = [f"o{n}" for n in range(self.dice.randint(1, 2))]
        self.cards = {order: self.dice.choice(["tok_good", "tok_good", "tok_good", "tok_bad"]) for order in self.orders}
        self.reserved = {order: self.dice.random() < RARELY for order in self.orders}
        self.worker = self.dice.random() < 0.7  # else only the same call completes what it has begun
        self.parcels = {order: self.dice.random() < OFTEN for order in self.orders}
        self.refunds: dict[str, int] = {}
        self.said: list[Said] = []
        self.events = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.trail: list[str] = []
        self.ids: dict[str, str] = {}

    # --- the story

    async def play(self) -> list[str]:
        """Run the story, let everything come to rest, and judge. Returns what is wrong."""
        process, guard = await self._program()
        for _ in range(self.dice.randint(*STEPS)):
            act = self.dice.choice(ACTS)
            self.trail.append(act)
            self.clock.advance(0.001)  # no two things happen at once
            if act == "crash":
                await self._crash(process, guard)
                process, guard = await self._program()
            else:
                await getattr(self, f"_{act}")(guard)
        await self._rest(guard)
        wrong = await self._judge()
        await guard.stop()
        for task in self.tasks:
            task.cancel()
        return wrong

    async def _program(self) -> tuple[Process, Guard]:
        process = Process()
        store: Any = ProcessStore(self.store, process)
        purpose = Purpose("pay", later=self._later if self.worker else None, gateways=("first:test", "second:test"), lease_seconds=30.0)
        guard = Guard(
            store,
            shop=SHOP,
            gateways=[Adapter(books, process) for books in self.books],
            purposes=[purpose],
            secret=SECRET,
            keys=KEYS,
            duties=False,
            clock=self.clock,
            breakers=BreakerPolicy(consecutive_failures=10_000, calls_min=10_000),
            timeouts=Timeouts(pause_seconds=0.0),
        )
        await guard.start(duties=False)
        return process, guard

    def _charge(self, order: str) -> Charge:
        card = self.cards[order]
        return Charge(AMOUNT, "EUR", source=card, order_id=order, capture=not self.reserved[order], sources={"second:test": card})

    async def _work_of(self, op: Any, order: str) -> str:
        payment: Charged = await op.charge(self._charge(order))
        self._say(order, "charged")
        if self.reserved[order] and self.parcels[order]:
            await op.capture(PARCEL, step="first parcel")
        elif self.reserved[order]:
            await op.capture()
        if not self.books[0].calm and self.dice.random() < RARELY:
            HAPPENED["sold out"] += 1
            raise SoldOut
        return payment.payment_id

    async def _later(self, op: Any) -> str:
        return await self._work_of(op, next(order for order in self.orders if op.id == self.ids.get(order)))

    async def _pay(self, guard: Guard) -> None:
        order = self.dice.choice(self.orders)

        async def call(op: Any) -> str:
            self.ids = {**self.ids, order: op.id}
            return await self._work_of(op, order)

        try:
            await guard.run(call, purpose="pay", key=order, owner="ann", amount_minor=AMOUNT, currency="EUR", deadline_seconds=3.0)
            self._say(order, "paid")
        except PaymentDeclined:
            self._say(order, "declined")
        except (CxguardError, SoldOut):
            return

    async def _work(self, guard: Guard) -> None:
        await guard.queue().run_once()

    async def _time(self, guard: Guard) -> None:
        self.clock.advance(self.dice.choice([1.0, 31.0, 120.0, 900.0]))

    async def _land(self, guard: Guard) -> None:
        self.dice.choice(self.books).land()

    async def _webhook(self, guard: Guard) -> None:
        """Before the answer, after it, without it, twice, out of order: whatever the books hold may be told at any time."""
        lines = [line for books in self.books for line in books.lines]
        if not lines:
            return
        line = self.dice.choice(lines)
        for _ in range(self.dice.choice([1, 1, 2])):
            event = f"evt_{line.id}_{line.refunded}_{self.dice.choice([0, self.events])}"
            await guard.note(told(line), event_id=event, gateway_key=line.key)
        self.events += 1
        HAPPENED["webhook"] += 1

    async def _refund(self, guard: Guard) -> None:
        order = self.dice.choice(self.orders)
        record = await self._record(order)
        if record is None or record.state is not State.FINISHED or record.money is not MoneyState.CHARGED or self.reserved[order]:
            return
        try:
            async with guard.resume(reference=record.reference) as op:
                self.refunds.setdefault(order, 1000)
                await op.refund(1000, step="a cup")
        except CxguardError:
            return

    async def _all_back(self, guard: Guard) -> None:
        """Somebody gives back what is paid, placed or not."""
        order = self.dice.choice(self.orders)
        record = await self._record(order)
        if record is None or record.money is not MoneyState.CHARGED or self.reserved[order]:
            return
        try:
            async with guard.resume(reference=record.reference) as op:
                await op.refund(step="all of it")
                HAPPENED["all of it back"] += 1
        except CxguardError:
            return

    async def _move(self, guard: Guard) -> None:
        """Days later: the second parcel, or the rest is let go, or a spoon was missing."""
        order = self.dice.choice(self.orders)
        record = await self._record(order)
        if record is None or record.state is not State.FINISHED or record.money is not MoneyState.CHARGED or not self.reserved[order]:
            return
        try:
            async with guard.resume(reference=record.reference) as op:
                match self.dice.choice(["parcel", "released", "spoon"]):
                    case "parcel":
                        await op.capture(step="second parcel")
                        HAPPENED["parcel"] += 1
                    case "released":
                        await op.void()
                        HAPPENED["released"] += 1
                    case _:
                        await op.refund(500, step="a spoon")
        except CxguardError:
            return

    async def _returned(self, guard: Guard) -> None:
        """The bank sends a refund back; the webhook comes, or only the books know."""
        key = self.dice.choice(self.books).give_back_fails()
        if key is not None and self.dice.random() < 0.5:
            await guard.note(NotCharged("refund failed"), event_id=f"evt_returned_{key}", gateway_key=key)

    async def _look(self, guard: Guard) -> None:
        """The books of one gateway against the store."""
        gateway: Any = self.dice.choice([*guard.gateways.values()])
        now = self.clock.now()
        seen = await reconcile(guard.engine, gateway, since=now - 86_400.0, until=now)
        HAPPENED["break"] += len(seen.breaks)

    async def _crash(self, process: Process, guard: Guard) -> None:
        """The program dies in the middle of something, at whichever of its waits."""
        doing = self.dice.choice([self._pay, self._work, self._refund, self._move, self._look])
        task = asyncio.create_task(doing(guard))
        self.tasks.append(task)
        for _ in range(self.dice.randint(0, 60)):
            await asyncio.sleep(0)
        process.dead = True
        HAPPENED["crash"] += 1
        guard.engine.operations.leases.stop()
        await asyncio.sleep(0)

    async def _rest(self, guard: Guard) -> None:
        """No more faults; late requests land; time passes and the queue works until nothing is due."""
        for books in self.books:
            books.calm = True
            while books.late:
                books.land()
        await self._work_off(guard)
        for gateway in guard.gateways.values():
            await reconcile(guard.engine, gateway, since=self.clock.now() - 86_400.0, until=self.clock.now())
        await self._work_off(guard)

    async def _work_off(self, guard: Guard) -> None:
        for _ in range(REST_ROUNDS_MAX):
            self.clock.advance(400.0)
            await guard.queue().run_once()
            if await self._nothing_due():
                return

    async def _nothing_due(self) -> bool:
        page = await self.store.search(Query(namespace="shop", limit=50))
        return all(each.due_at is None and each.lease is None for each in page.operations)

    # --- the judge

    def _of(self, order: str) -> list[Line]:
        return [line for books in self.books for line in books.lines if line.order == order]

    def _say(self, order: str, word: str) -> None:
        HAPPENED[word] += 1
        lines = self._of(order)
        stood = sum(line.stands for line in lines)
        self.said.append(Said(order, word, stood, sum(line.refunded for line in lines)))

    async def _record(self, order: str) -> Operation | None:
        return await self.store.get(self.ids[order]) if order in self.ids else None

    async def _judge(self) -> list[str]:
        wrong = [f"{said.order} was told {said.word}, and {said.stood} charges stood" for said in self.said if not _true(said)]
        for order in self.orders:
            lines = self._of(order)
            standing = [line for line in lines if line.stands]
            returned = any(line.key in self._returned_lines() for line in lines)
            if len(standing) > 1 and not returned:
                wrong.append(f"{order} has {len(standing)} standing charges: {[line.key[-6:] for line in standing]}")
            asked = (0, self.refunds.get(order, 0), AMOUNT)
            if not self.reserved[order] and not returned and any(line.refunded not in asked for line in lines):
                wrong.append(f"{order}: refunded {[line.refunded for line in lines]}, asked for {self.refunds.get(order, 0)}")
            if any(line.captured > AMOUNT for line in lines):
                wrong.append(f"{order}: more was captured than reserved")
            HAPPENED["refunded"] += any(line.refunded for line in lines)
            HAPPENED["second gateway"] += any(line.id.startswith("pay_second") for line in lines)
            record = await self._record(order)
            HAPPENED[record.state if record is not None else "released"] += 1
            wrong += await self._ownerless(order, standing)
        return wrong

    def _returned_lines(self) -> set[str]:
        return {books.moved[key][2].key for books in self.books for key in books.returned}

    async def _ownerless(self, order: str, standing: list[Line]) -> list[str]:
        record = await self._record(order)
        if record is None:
            return [f"{order}: a charge stands, and there is no record of it"] if standing else []
        if record.state in (State.RUNNING, State.QUEUED) and record.due_at is None:
            return [f"{order} is {record.state} and nobody's"]
        if record.money is MoneyState.UNKNOWN and not (record.state is State.HELD and record.waiting_for is WaitingFor.AGENT):
            return [f"{order} is unknown, {record.state}, and waits for {record.waiting_for}"]
        if record.money is MoneyState.UNKNOWN and self.keyed:
            return [f"{order} is unknown although the gateway can say: {record.why}"]
        if standing and record.money not in (MoneyState.CHARGED, MoneyState.UNKNOWN):
            return [f"{order}: a charge stands, and its record says {record.money}"]
        if not standing and record.money is MoneyState.CHARGED:
            return [f"{order}: nothing stands, and its record says charged"]
        return self._figures(order, record, standing) if self.keyed else []

    def _figures(self, order: str, record: Operation, standing: list[Line]) -> list[str]:
        """Of one charge that stands: what was taken and what went back."""
        money = money_of(record)
        if len(self._of(order)) != 1 or not standing or money.capture_pending or money.refund_pending:
            return []
        theirs, ours = (standing[0].captured, standing[0].refunded), (money.captured_minor, money.refunded_minor)
        return [f"{order}: the books say {theirs} taken and back, the record {ours}"] if theirs != ours else []


def _true(said: Said) -> bool:
    if said.word == "charged":
        return said.stood >= 1
    return said.stood == 1 or said.returned > 0 if said.word == "paid" else said.stood == 0


def play(seed: int) -> list[str]:
    """What is wrong with one seed: nothing."""
    random.seed(seed)  # the engine's jitter comes from there
    run = Run(seed)
    wrong = asyncio.run(run.play())
    return [f"seed {seed} ({'keyed' if run.keyed else 'unkeyed'}): {each}; {' '.join(run.trail)}" for each in wrong]
