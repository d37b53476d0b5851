"""A clock that was an hour ahead and is set back: for as long as the leases that were given out meanwhile say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.sqlite import SQLiteStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import LEASE_SECONDS, open_leased, put, queued, sample, seize, take, token_of

pytestmark = pytest.mark.asyncio
HOUR = 3_600.0

Again = Callable[[], Store]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def again(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Again:
    """The store as another process of the machine opens it."""
    memory = MemoryStore(clock=clock)
    return lambda: memory if request.param == "memory" else SQLiteStore(tmp_path / "shop.db", clock=clock)


@pytest_asyncio.fixture
async def store(again: Again) -> AsyncIterator[Store]:
    store = again()
    await store.start()
    yield store
    await store.stop()


async def test_lease_of_the_dead_lapses_in_its_own_time(store: Store, clock: ManualClock) -> None:
    """Given out in an hour that never came: from the next look on it lasts what was left of it, not that hour."""
    clock.jump(HOUR)
    await open_leased(store, sample())
    clock.advance(10.0)
    await put(store, sample("b"))
    clock.jump(-HOUR)
    assert await take(store) == ()
    clock.advance(LEASE_SECONDS - 10.0)
    assert [one.id for one in await take(store)] == [sample().id]


async def test_lease_of_the_living_is_not_given_away(store: Store, clock: ManualClock) -> None:
    """What is left of it is left: its holder can renew it before another is given it."""
    clock.jump(HOUR)
    opened = await open_leased(store, sample())
    clock.jump(-HOUR)
    clock.advance(LEASE_SECONDS - 1.0)
    assert not (await seize(store, opened)).won
    assert not await store.renew({opened.id: token_of(opened)}, lease_seconds=LEASE_SECONDS)
    clock.advance(LEASE_SECONDS - 1.0)
    assert await take(store) == ()


async def test_lease_from_before_the_clock_went_ahead_is_as_it_was(store: Store, clock: ManualClock) -> None:
    """It ends by the time that is right again."""
    opened = await open_leased(store, sample())
    clock.jump(HOUR)
    await put(store, queued("b"))
    clock.jump(-HOUR)
    clock.advance(LEASE_SECONDS - 1.0)
    assert not (await seize(store, opened)).won
    clock.advance(1.0)
    assert (await seize(store, opened)).won


async def test_it_is_noticed_once_by_whoever_comes_first(store: Store, again: Again, clock: ManualClock) -> None:
    """The second process that writes after it does not bring the leases back by another hour."""
    clock.jump(HOUR)
    opened = await open_leased(store, sample())
    clock.jump(-HOUR)
    await put(store, queued("b"))
    other = again()
    await other.start()
    await put(other, queued("c"))
    assert not (await seize(other, opened)).won
    await other.stop()


async def test_a_step_that_two_readings_of_one_clock_may_be_apart_is_none(store: Store, clock: ManualClock) -> None:
    """A lease keeps its end to the letter."""
    opened = await open_leased(store, sample())
    clock.jump(-0.5)
    await put(store, queued("b"))
    clock.advance(LEASE_SECONDS)
    assert not (await seize(store, opened)).won
    clock.advance(0.5)
    assert (await seize(store, opened)).won


@pytest.mark.parametrize(("due_in", "waits"), [(-10.0, 0.0), (5.0, 5.0), (900.0, 900.0), (901.0, HOUR + 901.0)])
async def test_an_order_waits_for_no_hour_that_never_came(store: Store, clock: ManualClock, due_in: float, waits: float) -> None:
    """Due in that hour, or a pause of the queue's later: so much earlier. What is due later still may be by its shopper's clock."""
    clock.jump(HOUR)
    await put(store, queued("a", due_at=clock.now() + due_in))
    await put(store, sample("b"))
    clock.jump(-HOUR)
    await put(store, sample("c"))
    clock.advance(max(waits - 1.0, 0.0))
    assert [one.id for one in await take(store)] == ([sample("a").id] if waits == 0.0 else [])
    clock.advance(1.0)
    assert waits == 0.0 or [one.due_at for one in await take(store)] == [pytest.approx(clock.now())]


@pytest.mark.parametrize(("back", "waits"), [(24 * HOUR, False), (25 * HOUR, True)])
async def test_an_order_is_not_due_by_a_clock_that_begins_years_ago(store: Store, clock: ManualClock, back: float, waits: bool) -> None:
    """A machine that was off, and keeps no time: the order's own end may have come meanwhile, so it waits until the clock is set."""
    await put(store, queued("a", due_at=clock.now() + 5.0))
    clock.jump(-back)
    await put(store, sample("b"))
    clock.advance(10.0)
    assert [one.id for one in await take(store)] == ([] if waits else [sample("a").id])
    clock.jump(back)
    assert not waits or [one.id for one in await take(store)] == [sample("a").id]
