"""A clock is set ahead while the shop is open: what was bought a moment ago was not bought long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from shopworld import World, Worlds, charging_handler, rule
from spoolworld import keeping, spool_world
from starlette.requests import Request
from starlette.responses import Response

from cxguard.clock import LEAPS_MAX, UNNOTICED_SECONDS, Leaps, SharedClock
from cxguard.rules import json_field
from cxguard.testing import ManualClock
from cxguard.testing.clock import START

HOUR = 3_600.0
ONE_PURCHASE = {"purchase": (json_field("cart"),)}


@pytest_asyncio.fixture
async def world() -> AsyncIterator[Worlds]:
    async with AsyncExitStack() as stack:
        yield Worlds(stack)


async def press(shop: World, key: str) -> tuple[int, str | None]:
    answer = await shop.pay(key=key)
    return answer.status_code, answer.json().get("situation")


# --- a shop


@pytest.mark.asyncio
async def test_second_tab_of_a_basket_that_was_bought_before_the_clock_was_set_is_the_same_order(world: Worlds) -> None:
    """Whoever presses there is shown the order, and pays once; as long as the rule says in seconds that have passed."""
    shop = await world(charging_handler, rule(**ONE_PURCHASE))
    assert (await press(shop, "k1"))[0] == 201
    shop.clock.jump(HOUR)
    shop.clock.advance(890.0)
    assert await press(shop, "k2") == (200, "duplicate")
    shop.clock.advance(20.0)
    assert (await press(shop, "k3"))[0] == 201
    assert len(shop.gateway.standing) == 2


@pytest.mark.asyncio
async def test_order_of_after_the_clock_was_set_is_as_old_as_it_says(world: Worlds) -> None:
    """Its own time is the new one already."""
    shop = await world(charging_handler, rule(**ONE_PURCHASE))
    shop.clock.jump(HOUR)
    assert (await press(shop, "k1"))[0] == 201
    shop.clock.advance(901.0)
    assert (await press(shop, "k2"))[0] == 201


@pytest.mark.asyncio
async def test_clock_that_is_set_ahead_and_back_leaves_all_as_it_was(world: Worlds) -> None:
    """Nobody is asked about an order of long ago."""
    shop = await world(charging_handler, rule(**ONE_PURCHASE))
    assert (await press(shop, "k1"))[0] == 201
    shop.clock.jump(HOUR)
    assert await press(shop, "k2") == (200, "duplicate")
    shop.clock.jump(-HOUR)
    shop.clock.advance(901.0)
    assert (await press(shop, "k3"))[0] == 201


@pytest.mark.asyncio
@pytest.mark.parametrize("first", [HOUR, -HOUR])
async def test_order_that_was_bought_between_two_settings_of_the_clock_is_the_same_order(world: Worlds, first: float) -> None:
    """Nothing was decided between the two, only an order opened, and ended."""
    shop = await world(charging_handler, rule(**ONE_PURCHASE))
    shop.clock.jump(first)
    assert (await press(shop, "k1"))[0] == 201
    shop.clock.jump(HOUR)
    assert await press(shop, "k2") == (200, "duplicate")
    assert len(shop.gateway.standing) == 1


@pytest.mark.asyncio
async def test_order_whose_run_outlived_a_setting_of_the_clock_is_the_same_order_after_the_next(world: Worlds) -> None:
    """It ended by the second of three times, at which nobody else came."""

    async def handler(request: Request) -> Response:
        shop.clock.jump(HOUR)
        return await charging_handler(request)

    shop = await world(handler, rule(**ONE_PURCHASE))
    assert (await press(shop, "k1"))[0] == 201
    shop.clock.jump(HOUR)
    assert await press(shop, "k2") == (200, "duplicate")


@pytest.mark.asyncio
async def test_name_of_the_shops_own_is_known_again_too(world: Worlds) -> None:
    """The answer of a moment ago is given again; after the window its shopper is asked."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    first = await shop.pay(key=None)
    shop.clock.jump(HOUR)
    again = await shop.pay(key=None)
    assert (again.status_code, again.json()) == (201, first.json())
    shop.clock.advance(901.0)
    assert (await shop.pay(key=None)).json()["situation"] == "duplicate"


@pytest.mark.asyncio
async def test_clock_of_a_shared_store_that_is_set_ahead_is_noticed(world: Worlds, tmp_path: Path) -> None:
    """A server that takes over has a clock of its own."""
    shop = await spool_world(world, tmp_path, rule(**ONE_PURCHASE))
    assert (await shop.press(key="k1")).status_code == 201
    shop.clock.jump(HOUR)
    assert (await shop.press(key="k2")).json()["situation"] == "duplicate"
    assert len(shop.gateway.standing) == 1


@pytest.mark.asyncio
async def test_order_that_was_spooled_after_its_clock_was_set_is_the_one_that_was_paid_before(world: Worlds, tmp_path: Path) -> None:
    """The other tab was pressed while the store was away: its order is merged as if it had been pressed in time."""
    shop = await spool_world(world, tmp_path, keeping(**ONE_PURCHASE))
    assert (await shop.press(key="k1")).status_code == 201
    shop.clock.advance(60.0)
    shop.clock.jump(HOUR)
    assert (await shop.press(key="k0", cart="c9")).status_code == 201
    shop.go_away()
    assert (await shop.press(key="k2")).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    assert len(shop.gateway.standing) == 2, "the basket of k1, and the other one"


@pytest.mark.asyncio
async def test_clock_that_is_set_while_an_order_waits_in_the_spool_makes_it_no_older_than_it_is(world: Worlds, tmp_path: Path) -> None:
    """The window was over when it was pressed: it is another order."""
    shop = await spool_world(world, tmp_path, keeping(**ONE_PURCHASE))
    assert (await shop.press(key="k1")).status_code == 201
    shop.clock.advance(1_000.0)
    shop.go_away()
    assert (await shop.press(key="k2")).json()["situation"] == "spooled"
    shop.clock.jump(HOUR)
    await shop.come_back()
    await shop.rest()
    assert len(shop.gateway.standing) == 2


# --- the reckoning


def leaps_of(*steps: float) -> tuple[ManualClock, Leaps]:
    """A clock that was set by *steps*, a minute apart."""
    clock = ManualClock()
    leaps = Leaps(clock)
    for step in steps:
        clock.advance(60.0)
        clock.jump(step)
        leaps.seconds_since(clock.now())
    return clock, leaps


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [((), 0.0), ((2.0,), 0.0), ((2.5,), 2.5), ((HOUR, HOUR), 2 * HOUR), ((-HOUR,), 0.0), ((HOUR, -HOUR), 0.0), ((HOUR, -600.0), 3_000.0),
     ((HOUR, 600.0, -900.0), 3_300.0), ((HOUR, -2 * HOUR), 0.0)],
)  # fmt: skip
def test_what_came_before_is_younger_by_what_the_clock_was_set_ahead(steps: tuple[float, ...], seconds: float) -> None:
    """What it was set back comes off what it was set ahead, and never more: nothing is older than it says."""
    _, leaps = leaps_of(*steps)
    assert leaps.seconds_since(START) == pytest.approx(seconds)


def test_what_was_written_by_one_who_had_not_noticed_came_before() -> None:
    """For a minute; what has the new time came after."""
    clock, leaps = leaps_of(HOUR)
    was = clock.now() - HOUR
    times = (was + UNNOTICED_SECONDS, was + UNNOTICED_SECONDS + 1.0, clock.now())
    assert [leaps.seconds_since(at) for at in times] == [HOUR, 0.0, 0.0]


def test_clock_that_began_in_1970_and_is_put_right_makes_no_order_of_yesterday_young() -> None:
    """A small machine without a battery has the time from the network, a moment after it is on."""
    clock = ManualClock(5.0)
    leaps = Leaps(clock)
    clock.jump(START)
    assert leaps.seconds_since(START - 24 * HOUR) == 0.0


def test_clock_that_is_set_all_the_time_is_remembered_for_its_last_leaps() -> None:
    """A process that runs for a year keeps no list without end."""
    _, leaps = leaps_of(*[10.0] * (LEAPS_MAX + 4))
    assert leaps.seconds_since(START) == pytest.approx(10.0 * LEAPS_MAX)


@pytest.mark.asyncio
async def test_what_the_first_answer_of_a_store_changes_is_no_leap() -> None:
    """The machine's own clock may be off by an hour; what is on record goes by the store's."""
    own = ManualClock()
    shared = SharedClock(own)
    leaps = Leaps(shared)

    async def ask() -> float:
        return own.now() + HOUR

    own.advance(1.0)
    await shared.follow(ask)
    assert leaps.seconds_since(START - HOUR) == 0.0
