"""Whether a loss of the store's tail is noticed, whatever the loss took with it."""

from __future__ import annotations

import pytest
from lostworld import KEY, SECRET, World, world
from relocationworld import move
from shopworld import SHOP

from cxguard.core.names import gateway_key
from cxguard.core.operation import Operation
from cxguard.engine.epochs import doubts_of
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.errors import PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import Fault

pytestmark = pytest.mark.asyncio


async def test_loss_of_a_shops_first_order_is_noticed() -> None:
    """Each process knows the store's life from its start: also where a failover takes back all that was ever written."""
    shop, second = World(FakeGateway(keyed=False)), World(FakeGateway(keyed=False))
    second.store.store, second.gateway.payments = shop.store.store, shop.gateway.payments
    async with shop.guard, second.guard:
        before = await shop.press()
        await shop.fail_over(small=(SECRET_CHECK,))
        second.store.store = shop.store.store
        assert await second.press() == before
        assert len(shop.gateway.standing) == 1


async def test_life_that_could_not_be_put_on_record_is_known_to_who_began_in_it() -> None:
    """No process could read or write it as it started; the first order, and the record of it, go in the failover."""
    shop, second = World(FakeGateway(keyed=False)), World(FakeGateway(keyed=False))
    second.store.store, second.gateway.payments = shop.store.store, shop.gateway.payments
    for each in (shop, second):
        each.store.plan("load", Fault.NOT_DONE, after=3)  # those of its whereabouts and its secret
    async with shop.guard, second.guard:
        assert (await second.store.load("epoch:shop")).revision == 0
        before = await shop.press()
        await shop.fail_over(small=(SECRET_CHECK,))
        second.store.store = shop.store.store
        assert await second.press() == before
        assert len(shop.gateway.standing) == 1


async def test_who_saw_the_life_before_knows_better_than_a_newcomer() -> None:
    """A process that starts after the failover takes the store for a new one, and writes that down: whoever was there says no,
    and the newcomer hears of it."""
    async with world(keyed=True) as shop:
        before = await shop.press()
        await shop.fail_over(small=(SECRET_CHECK,))
        newcomer = Guard(shop.store, shop=SHOP, secret=SECRET, keys=[KEY], clock=shop.clock)
        async with newcomer:
            assert await newcomer.engine.epochs.lost_since() is None
            assert await shop.press() == before
            shop.clock.advance(1.0)
            assert await newcomer.engine.epochs.lost_since() is not None
        async with Guard(shop.store, shop=SHOP, secret=SECRET, keys=[KEY], clock=shop.clock) as third:
            assert await third.engine.epochs.lost_since() is not None
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_clock_that_is_set_does_not_shorten_the_wait_for_what_was_under_way() -> None:
    """Who has lived through the failover waits by a clock that nobody sets. Found by a hunt, as seed 6526329."""
    async with world(keyed=False) as shop:
        await shop.fail_over()
        with pytest.raises(PaymentDeferred, match="unknown"):
            await shop.press("o2")
        shop.clock.jump(3600.0)
        await shop.rest()
        late = gateway_key((await shop.record()).id, step="charge", generation=1)
        await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=late, timeout_seconds=1.0)
        shop.clock.advance(61.0)
        await shop.rest()
        assert (await shop.record()).money == "charged"
        assert len(shop.gateway.standing) == 2, "the first order's, and the late one"


async def test_new_life_is_dated_by_the_stores_clock() -> None:
    """Whoever notices it first may have a clock that is an hour behind: what was under way would be over for all the others."""
    async with world(keyed=True) as shop:
        behind = World(FakeGateway())
        behind.clock.jump(-3600.0)
        behind.store.store = shop.store.store
        async with behind.guard:
            await shop.fail_over()
            behind.store.store = shop.store.store
            assert await behind.guard.engine.epochs.changed_at() == shop.clock.now()


@pytest.mark.parametrize("noticed", [True, False])
async def test_orders_that_move_after_a_failover_are_doubted_where_they_come_to(noticed: bool) -> None:
    """What the old store has lost is not there either, and the new one has had no failover: it is told of that one."""
    async with world(keyed=False) as shop:
        before = await shop.press()
        await shop.fail_over()
        if noticed:
            await shop.guard.engine.epochs.look()
    second = World(shop.gateway)
    await move(shop.store.store, second.store.store)
    async with second.guard:
        second.clock.advance(3_600.0)
        assert await second.press() == before
        assert await second.guard.engine.epochs.lost_since() == shop.clock.now()


async def test_orders_that_move_without_a_failover_are_not_doubted() -> None:
    """Else each order of the next two days would be looked up for nothing."""
    async with world(keyed=True) as shop:
        old = shop.store.store
    async with World(FakeGateway()).guard as guard:
        await move(old, guard.engine.operations.store)
        assert await guard.engine.epochs.lost_since() is None


@pytest.mark.parametrize("noticed", [True, False])
async def test_store_that_was_lost_later_than_the_one_its_orders_come_from_keeps_its_own_doubt(noticed: bool) -> None:
    """Whatever was written there before its own loss is an older copy, too: the earlier date would not say so."""
    async with world(keyed=False) as shop:
        await shop.fail_over()
        await shop.guard.engine.epochs.look()
    second = World(FakeGateway())
    async with second.guard:
        second.clock.advance(3_600.0)
        await second.fail_over()
        if noticed:
            await second.guard.engine.epochs.look()
        await move(shop.store.store, second.store.store)
        assert await second.guard.engine.epochs.lost_since() == second.clock.now()


async def test_life_began_when_the_store_says_so_if_this_process_met_it_at_once() -> None:
    """The later of the two counts: by which of them this process went would else depend on whose clock is set."""
    async with world() as shop:
        await shop.fail_over()
        began = await shop.guard.engine.epochs.changed_at()
        assert began is not None
        shop.clock.jump(-600.0)
        assert shop.guard.engine.epochs.began_at(began) == began


async def test_who_only_looks_doubts_the_orders_of_before_the_loss() -> None:
    """From the moment of it, before any process has noticed; then by when that was. An order of after it is no copy."""
    async with world() as shop:
        shop.clock.advance(10.0)
        copy = await shop.keep()

        async def doubted(order: Operation) -> bool:
            return (await doubts_of(shop.store.store, namespace="shop", now=shop.clock.now()))(order)

        assert not await doubted(copy)
        await shop.fail_over(copy)
        shop.clock.advance(1.0)
        assert await doubted(copy)
        await shop.guard.engine.epochs.look()
        shop.clock.advance(3_600.0)
        assert await doubted(copy)
        shop.gateway.will(*[Does.NOT_CHARGED] * 3)
        with pytest.raises(PaymentDeferred):
            await shop.press("a new one")
        assert not await doubted(await shop.record())
