"""The store lost its last writes; a shopper who has paid presses again. The gateway's own ledger judges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from shopworld import SHOP

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.lost import LOST_BACK_SECONDS
from cxguard.core.names import gateway_key
from cxguard.core.operation import Operation
from cxguard.core.outcomes import Charged, Unknown
from cxguard.engine.library import Purpose
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.errors import PaymentDeclined, PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import FaultyStore

pytestmark = pytest.mark.asyncio

SECRET, KEY = bytes(range(32)), bytes(range(32, 64))


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    return {"payment": payment.payment_id}


class World:
    """One guard on a store that can lose what it holds, as after a failover to a replica that lagged."""

    def __init__(self, gateway: FakeGateway) -> None:
        self.gateway = gateway
        self.clock = ManualClock()
        self.store = FaultyStore(MemoryStore(clock=self.clock))
        self.events: list[str] = []
        self.guard = Guard(
            self.store,
            shop=SHOP,
            gateways=[gateway],
            purposes=[Purpose("order", later=place)],
            secret=SECRET,
            keys=[KEY],
            breakers=BreakerPolicy(consecutive_failures=100),
            clock=self.clock,
            listeners=[lambda event: self.events.append(event.name)],
        )

    async def press(self, key: str = "o1") -> Any:
        return await self.guard.run(place, purpose="order", key=key, owner="ann", deadline_seconds=5.0)

    async def fail_over(self) -> None:
        """Another server, which has the small values and none of the orders."""
        after = MemoryStore(clock=self.clock)
        await after.start()
        for key in ("epoch:shop", SECRET_CHECK):
            kept = await self.store.load(key)
            if kept.revision:
                await after.swap(key, revision=0, value=kept.value)
        self.store.store = after

    async def record(self) -> Operation:
        """The newest one."""
        return (await self.store.search(Query(namespace="shop"))).operations[0]


@asynccontextmanager
async def world(**how: Any) -> AsyncIterator[World]:
    made = World(FakeGateway(**how))
    async with made.guard:
        await made.press("a first order, so that the epoch is known")
        made.gateway.calls.clear()
        yield made


@pytest.mark.parametrize("keyed", [True, False])
async def test_paid_order_that_was_lost_is_not_paid_again(keyed: bool) -> None:
    """With keys and without: the charge of the lost record is found, adopted, and the timeline says so."""
    async with world(keyed=keyed) as shop:
        before = await shop.press()
        await shop.fail_over()
        assert await shop.press() == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"
        assert "payment.looked_for_lost" in [entry.event for entry in (await shop.record()).history]
        assert "store.began_anew" in shop.events


async def test_new_order_is_charged_once_nothing_is_found() -> None:
    """Most orders after a failover are new: each is looked up, then charged."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press("o2")
        assert [call.verb for call in shop.gateway.calls] == ["find", "find", "charge"]


async def test_order_that_paid_in_its_second_life_is_found() -> None:
    """The first card was declined, the second one paid; the record of both is lost: nothing is charged again."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        key = gateway_key((await shop.record()).id, step="charge", generation=2)
        paid = await shop.gateway.charge(Charge(4999, "EUR", source="tok_good"), key=key, timeout_seconds=1.0)
        assert isinstance(paid, Charged)
        await shop.fail_over()
        assert await shop.press() == {"payment": paid.payment_id}
        assert (await shop.record()).generation == 2
        assert len(shop.gateway.standing) == 2


async def test_declined_key_is_not_sent_again() -> None:
    """A gateway answers for a key for ever: after a decline that was lost, the good card goes out under the next life's key."""
    async with world(keyed=True) as shop:
        shop.gateway.will(Does.DECLINE)
        with pytest.raises(PaymentDeclined):
            await shop.press()
        await shop.fail_over()
        assert await shop.press()
        assert (await shop.record()).generation == 2


async def test_silent_gateway_leaves_doubt_and_no_charge() -> None:
    """Without an answer nothing is charged and nobody is told "not charged": it is unknown, and resolved like any other."""
    async with world(keyed=True) as shop:
        paid = await shop.press()
        await shop.fail_over()
        shop.gateway.will_say("find", [Unknown("no answer in time")])
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press()
        assert (await shop.record()).money == "unknown"
        shop.clock.advance(3600.0)
        await shop.guard.queue().run_once()
        assert (await shop.record()).money == "charged"
        assert len(shop.gateway.standing) == 2
        assert paid


async def test_without_keys_a_fresh_not_found_is_not_believed() -> None:
    """What left right before the failover may still land: without keys at the gateway, that is waited for."""
    async with world(keyed=False) as shop:
        await shop.fail_over()
        with pytest.raises(PaymentDeferred):
            await shop.press("o2")
        assert shop.gateway.count("charge") == 0
        shop.clock.advance(shop.gateway.settle_seconds + 1.0)
        assert await shop.press("o3")


async def test_search_for_lost_orders_ends() -> None:
    """When no lost order can come back any more, nobody is asked first."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.press("o2")
        shop.clock.advance(LOST_BACK_SECONDS)
        shop.gateway.calls.clear()
        await shop.press("o3")
        assert [call.verb for call in shop.gateway.calls] == ["charge"]


async def test_another_process_knows_of_the_change() -> None:
    """A process that starts after the failover has seen no other epoch: the small value tells it."""
    async with world(keyed=True) as shop:
        await shop.press()
        await shop.fail_over()
        later = World(shop.gateway)
        later.store.store = shop.store.store
        async with later.guard:
            await later.press()
    assert len(shop.gateway.standing) == 2
