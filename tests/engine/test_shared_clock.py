"""One clock for all machines of a shop: the store's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from shopworld import Worlds
from spoolworld import keeping, spool_world

from cxguard.clock import APART_SECONDS, LOOK_SECONDS, SharedClock
from cxguard.errors import StoreUnavailable
from cxguard.rules import json_field
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.clock import START

pytestmark = pytest.mark.asyncio
ONE_PURCHASE = {"purchase": (json_field("cart"),)}


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Worlds]:
    async with AsyncExitStack() as stack:
        yield Worlds(stack)


class Looked:
    """A store's clock that counts who looks at it."""

    def __init__(self, own: ManualClock, *, ahead_seconds: float = 0.0) -> None:
        self.own = own
        self.ahead_seconds = ahead_seconds
        self.looks = 0

    async def ask(self) -> float:
        self.looks += 1
        return self.now()

    def now(self) -> float:
        """Nobody sets it."""
        return START + self.own.monotonic() + self.ahead_seconds

    def monotonic(self) -> float:
        return self.own.monotonic()


@pytest.mark.parametrize("apart", [-3600.0, -APART_SECONDS / 2, APART_SECONDS / 2, 3600.0])
async def test_it_goes_by_the_stores(apart: float) -> None:
    """A machine that is an hour off dates what it writes as all others do; a moment makes no difference."""
    own = ManualClock()
    store, shared = Looked(own, ahead_seconds=apart), SharedClock(own)
    await shared.follow(store.ask)
    own.advance(7.0)
    assert abs(shared.now() - store.now()) <= APART_SECONDS


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
async def test_a_clock_that_is_set_changes_nothing(seconds: float) -> None:
    """Neither before the store is asked again nor after it."""
    own = ManualClock()
    store, shared = Looked(own), SharedClock(own)
    await shared.follow(store.ask)
    own.jump(seconds)
    assert shared.now() == store.now()
    await shared.follow(store.ask)
    assert (shared.now(), store.looks) == (store.now(), 2)


async def test_it_looks_seldom() -> None:
    """Once in its time, however often it is asked to."""
    own = ManualClock()
    store, shared = Looked(own), SharedClock(own)
    for seconds in (0.0, LOOK_SECONDS / 2, LOOK_SECONDS / 2, 1.0):
        own.advance(seconds)
        await shared.follow(store.ask)
    assert store.looks == 2


async def test_a_look_that_failed_is_made_again() -> None:
    """The next time somebody begins something."""
    own = ManualClock()
    store, shared = Looked(own, ahead_seconds=60.0), SharedClock(own)

    async def away() -> float:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable):
        await shared.follow(away)
    await shared.follow(store.ask)
    assert shared.now() == store.now()


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_machine_that_is_an_hour_off_charges_no_purchase_twice(world: Worlds, tmp_path: Path, hours: int) -> None:
    """Pressed at it, and a moment later at another one, under another key: an order of a moment ago."""
    (tmp_path / "wrong").mkdir()
    right = await spool_world(world, tmp_path, keeping(**ONE_PURCHASE))
    wrong = await spool_world(world, tmp_path / "wrong", keeping(**ONE_PURCHASE), gateway=right.gateway)
    wrong.faulty.store = right.faulty.store = MemoryStore(clock=Looked(right.clock))
    wrong.clock.jump(hours * 3600.0)
    assert (await wrong.press(key="one")).status_code == 201
    assert (await right.press(key="two")).json()["situation"] == "duplicate"
    assert len(right.gateway.standing) == 1


@pytest.mark.parametrize(("away_seconds", "seconds"), [(1200.0, -3600.0), (3000.0, -2400.0), (1200.0, 3600.0)])
async def test_a_clock_that_is_set_while_an_order_is_spooled_makes_no_second_purchase(
    world: Worlds, tmp_path: Path, away_seconds: float, seconds: float
) -> None:
    """Paid, pressed again under another key while the store is away, and the clock set before it is back."""
    shop = await spool_world(world, tmp_path, keeping(**ONE_PURCHASE))
    shop.faulty.store = MemoryStore(clock=Looked(shop.clock))
    await shop.press(key="one")
    shop.clock.advance(5.0)
    shop.go_away()
    again = await shop.press(key="two")
    shop.clock.advance(away_seconds)
    shop.clock.jump(seconds)
    await shop.come_back()
    await shop.rest()
    assert len(shop.gateway.standing) == 1
    assert (await shop.page(again))["situation"] == "placed"
