"""A payment, capture, refund or release that is cancelled at each of its waits, one after the other: the books and the record
agree at last, nothing moved twice, and the same call again ends as if nothing had been.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from payment_books import AMOUNT, Adapter, Books, Process, ProcessStore
from shopworld import KEYS, SECRET, SHOP

from cxguard.core.operation import Operation, State, money_of
from cxguard.engine.library import Purpose
from cxguard.errors import CxguardError
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock

pytestmark = pytest.mark.asyncio

WAITS_MAX = 400  # of one call: more means that it never ends
ROUNDS = 12


@dataclass
class Shop:
    """A guard whose store and gateway wait before and after each thing that they do."""

    guard: Guard
    books: Books
    clock: ManualClock
    store: MemoryStore

    async def pay(self, *, capture: bool = True) -> None:
        async def call(op: Any) -> str:
            payment = await op.charge(Charge(AMOUNT, "EUR", source="tok", order_id="o1", capture=capture))
            return str(payment.payment_id)

        await self.guard.run(call, purpose="pay", key="o1", owner="ann", amount_minor=AMOUNT, currency="EUR")

    async def _resumed(self, act: Callable[[Any], Awaitable[Any]]) -> None:
        async with self.guard.resume(reference=(await self.record()).reference) as op:
            await act(op)

    async def capture(self) -> None:
        await self._resumed(lambda op: op.capture(2000))

    async def refund(self) -> None:
        await self._resumed(lambda op: op.refund(1000))

    async def void(self) -> None:
        await self._resumed(lambda op: op.void())

    async def record(self) -> Operation:
        page = await self.store.search(Query(namespace="shop"))
        return page.operations[0]

    async def rest(self) -> None:
        for _ in range(ROUNDS):
            self.clock.advance(400.0)
            await self.guard.queue().run_once()


@asynccontextmanager
async def shop_of(*, keyed: bool) -> AsyncIterator[Shop]:
    clock, process = ManualClock(), Process()
    store, books = MemoryStore(clock=clock), Books(random.Random(1), "first:test", keyed, calm=True)
    faulty: Any = ProcessStore(store, process)

    async def later(op: Any) -> str:
        return str((await op.charge(Charge(AMOUNT, "EUR", source="tok", order_id="o1"))).payment_id)

    purposes = [Purpose("pay", later=later)]
    options: dict[str, Any] = {"shop": SHOP, "secret": SECRET, "keys": KEYS, "duties": False, "clock": clock}
    async with Guard(faulty, gateways=[Adapter(books, process)], purposes=purposes, **options) as guard:
        yield Shop(guard, books, clock, store)


async def cancelled_after(call: Callable[[], Awaitable[None]], waits: int) -> bool:
    """Run *call* and cancel it at its wait number *waits*; False: it had ended before."""
    task = asyncio.ensure_future(call())
    for _ in range(waits):
        await asyncio.sleep(0)
        if task.done():
            await task
            return False
    task.cancel()
    with suppress(asyncio.CancelledError, CxguardError):
        await task
    return True


async def judged(shop: Shop, *, keyed: bool) -> list[str]:
    if not shop.books.lines:
        return []
    (line,) = shop.books.lines if len(shop.books.lines) == 1 else (None,)
    if line is None:
        return [f"{len(shop.books.lines)} payments"]
    record = await shop.record()
    money = money_of(record)
    wrong = []
    if record.lease is not None or record.due_at is not None or record.state in (State.RUNNING, State.QUEUED):
        wrong.append(f"{record.state}, due {record.due_at}, lease {record.lease}")
    if keyed and (money.unknown_keys or money.capture_pending or money.refund_pending):
        wrong.append(f"not resolved: {money}")
    if keyed and (money.captured_minor, money.refunded_minor) != (line.captured, line.refunded):
        wrong.append(f"the books say {line.captured} taken and {line.refunded} back, the record {money}")
    if line.refunded not in (0, 1000, AMOUNT) or line.captured not in (0, 2000, AMOUNT):
        wrong.append(f"moved twice: {line}")
    return wrong


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "unkeyed"])
@pytest.mark.parametrize("verb", ["pay", "capture", "refund", "void"])
async def test_cancelled_at_any_wait_the_books_and_the_record_agree(verb: str, keyed: bool) -> None:
    """Each wait of each call."""
    wrong: list[str] = []
    for waits in range(WAITS_MAX):
        async with shop_of(keyed=keyed) as shop:
            if verb != "pay":
                await shop.pay(capture=verb == "refund")
            cut = await cancelled_after(getattr(shop, verb), waits)
            await shop.rest()
            wrong += [f"{waits}: {each}" for each in await judged(shop, keyed=keyed)]
            with suppress(CxguardError):
                await getattr(shop, verb)()
            await shop.rest()
            wrong += [f"{waits}, again: {each}" for each in await judged(shop, keyed=keyed)]
            if keyed:
                (line,) = shop.books.lines
                moved = {"pay": AMOUNT, "capture": line.captured, "refund": line.refunded, "void": line.refunded}[verb]
                assert moved == {"pay": AMOUNT, "capture": 2000, "refund": 1000, "void": AMOUNT}[verb], (waits, line)
        if not cut:
            break
    assert wrong == []
    assert 5 < waits < WAITS_MAX - 1
