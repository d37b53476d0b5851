"""One order at a till: a guard on the memory store, its gateway in memory, a clock in hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from shopworld import KEYS, SECRET, SHOP

from cxguard.core.money import Money
from cxguard.core.operation import Operation, money_of
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

RESERVE = Charge(5000, "EUR", source="tok_ok", capture=False)
TAKE = Charge(5000, "EUR", source="tok_ok")


@dataclass
class Till:
    """A guard, its gateway, and the one order."""

    guard: Guard
    gateway: FakeGateway
    clock: ManualClock
    reference: str = ""

    async def run(self, call: Callable[[Any], Awaitable[Any]], *, key: str = "o1") -> Any:
        async with self.guard.operation(purpose="order", key=key, owner="ann") as op:
            self.reference = op.reference
            return await call(op)

    async def paid(self, charge: Charge) -> Money:
        await self.run(lambda op: op.charge(charge))
        return await self.money()

    async def record(self) -> Operation:
        page = await self.guard.store.search(Query(namespace="shop", reference=self.reference))
        return page.operations[0]

    async def money(self) -> Money:
        return money_of(await self.record())

    async def settle(self) -> None:
        for _ in range(6):
            self.clock.advance(120.0)
            await self.guard.queue().run_once()


@asynccontextmanager
async def till(
    *script: Does, gateway: FakeGateway | None = None, guarded: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[Till]:
    """Args: guarded: options of the guard; the others, and the script, are the gateway's."""
    gateway, clock = gateway or FakeGateway(*script, **options), ManualClock()
    store = MemoryStore(clock=clock)
    settings: dict[str, Any] = {"shop": SHOP, "secret": SECRET, "keys": KEYS, "duties": False, "clock": clock, **(guarded or {})}
    async with Guard(store, gateways=[gateway], **settings) as guard:
        yield Till(guard, gateway, clock)
