"""One guard on a store that can lose its tail, judged by the gateway's own ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shopworld import SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation
from cxguard.engine.library import Purpose
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.errors import PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import FaultyStore

SECRET, KEY = bytes(range(32)), bytes(range(32, 64))


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok", sources={"second:test": "tok_ok"}))
    return {"payment": payment.payment_id}


class World:
    """One guard on a store that can lose what it holds, as after a failover to a replica that lagged."""

    def __init__(self, gateway: FakeGateway, *others: FakeGateway) -> None:
        self.gateway = gateway
        self.clock = ManualClock()
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.events: list[str] = []
        self.guard = Guard(
            self.store,
            shop=SHOP,
            gateways=[gateway, *others],
            purposes=[Purpose("order", later=place, gateways=tuple(each.name for each in (gateway, *others)))],
            secret=SECRET,
            keys=[KEY],
            breakers=BreakerPolicy(consecutive_failures=100),
            clock=self.clock,
            listeners=[lambda event: self.events.append(event.name)],
        )

    async def press(self, key: str = "o1", *, of: Any = place) -> Any:
        return await self.guard.run(of, purpose="order", key=key, owner="ann", deadline_seconds=5.0)

    async def fail_over(self, *copies: Operation, small: tuple[str, ...] = ("epoch:shop", SECRET_CHECK)) -> None:
        """Another server, which has the *small* values, and of the orders only these *copies*."""
        after = MemoryStore(clock=self.clock)
        await after.start()
        for key in small:
            kept = await self.store.load(key)
            if kept.revision:
                await after.swap(key, revision=0, value=kept.value)
        for copy in copies:
            await after.put(copy)
        self.store.store = after

    async def keep(self) -> Operation:
        """An order that is kept, because the gateway cannot be reached: the copy that a replica has of it."""
        self.gateway.will(*[Does.NOT_CHARGED] * 3)
        with pytest.raises(PaymentDeferred):
            await self.press()
        return await self.record()

    async def rest(self) -> None:
        """Let the queue work until nothing more is due."""
        while (await self.guard.queue().run_once()).taken:
            pass

    async def wish_to_cancel(self, copy: Operation) -> None:
        wish = Note("cancel:1", NoteKind.CANCEL, self.clock.now(), generation=copy.generation)
        await self.guard.engine.operations.note(copy.id, wish)

    async def record(self) -> Operation:
        """The newest one."""
        return (await self.store.search(Query(namespace="shop"))).operations[0]


@asynccontextmanager
async def world(*others: FakeGateway, **how: Any) -> AsyncIterator[World]:
    made = World(FakeGateway(**how), *others)
    async with made.guard:
        await made.press("a first order, so that the epoch is known")
        made.gateway.calls.clear()
        yield made
