"""The store that orders are being moved to: nothing is begun there before all have come."""

from __future__ import annotations

from typing import cast

import pytest
from relocationworld import guard_on, move, one

from cxguard.core.money import MoneyState
from cxguard.core.operation import money_of
from cxguard.engine.whereabouts import NOTICE_SECONDS
from cxguard.errors import ConfigurationError, OrdersArriving, StoreUnavailable
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore, ManualClock
from cxguard.testing.contract.base import charged_note, got, put, queued, sample
from cxguard.testing.faulty_store import Fault


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def source(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def target(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock=clock)


async def cut_short(source: MemoryStore, target: MemoryStore) -> None:
    """A move whose target stops answering after the first order."""
    dying = FaultyStore(target)
    dying.plan("put", Fault.NOT_DONE, times=100, after=1)
    with pytest.raises(StoreUnavailable):
        await move(source, cast(Store, dying))


@pytest.mark.asyncio
async def test_no_shop_starts_where_orders_are_still_to_come(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """The move was killed, and the shop started on the new store: an order that is not there yet would look new, and be charged."""
    for name in ("a", "b", "c"):
        await put(source, queued(name, notes=(charged_note(),)))
    await cut_short(source, target)
    with pytest.raises(OrdersArriving, match=r"migrate-store sqlite:///old\.db .* again until it says"):
        await guard_on(target, clock).start()
    assert (await move(source, target)).complete
    async with guard_on(target, clock) as guard:
        assert await guard.run(one, purpose="order", key="1", owner="ann") == 1


@pytest.mark.asyncio
async def test_a_shop_that_runs_on_the_new_store_waits_for_the_orders(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """It was started too early, before the move: it begins nothing while orders are under way, and goes on afterwards. Facts are kept."""
    for name in ("a", "b"):
        await put(source, queued(name))
    async with guard_on(target, clock) as guard:
        await guard.run(one, purpose="order", key="1", owner="ann")
        await cut_short(source, target)
        clock.advance(NOTICE_SECONDS)
        with pytest.raises(OrdersArriving):
            await guard.run(one, purpose="order", key="2", owner="ann")
        await guard.engine.operations.note(sample("b").id, charged_note())
        await move(source, target)
        assert await guard.run(one, purpose="order", key="2", owner="ann") == 1
    assert money_of(await got(target, sample("b").id)).state is MoneyState.CHARGED


@pytest.mark.asyncio
async def test_a_move_that_is_run_again_does_not_stop_the_shop_on_the_new_store(source: MemoryStore, target: MemoryStore) -> None:
    """All orders are there: nothing is on its way."""
    await put(source, queued("a"))
    await move(source, target)
    watched = FaultyStore(target)
    assert (await move(source, cast(Store, watched))).complete
    assert watched.calls["swap"] == 0


@pytest.mark.asyncio
async def test_an_order_that_is_a_persons_keeps_no_shop_closed(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """Both stores took an order of this name: sent again, it is found."""
    await put(source, queued("a"))
    await put(target, queued("a", amount_minor=1))
    assert not (await move(source, target)).complete
    async with guard_on(target, clock):
        pass


@pytest.mark.asyncio
async def test_two_old_stores_do_not_arrive_at_once(source: MemoryStore, target: MemoryStore, clock: ManualClock) -> None:
    """The end of one move would open the shop in the middle of the other."""
    for name in ("a", "b"):
        await put(source, queued(name))
    await cut_short(source, target)
    with pytest.raises(ConfigurationError, match="still on their way"):
        await move(MemoryStore(clock=clock), target)
