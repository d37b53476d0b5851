"""Tries that charged nothing, and the one after them that paid: all of them lost with the store's tail."""

from __future__ import annotations

from typing import Any

import pytest
from lostworld import World, place, world

from cxguard.errors import PaymentDeferred
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def press(shop: World) -> Any:
    """An order that cannot be kept: each try is over at once."""
    return await shop.guard.run(place, purpose="till", key="o1", owner="ann", deadline_seconds=5.0)


async def tried(shop: World, *does: Does) -> None:
    shop.gateway.will(*does)
    for _ in does:
        with pytest.raises(PaymentDeferred):
            await press(shop)
        shop.clock.advance(2.0)  # as a throttled one has to wait


@pytest.mark.parametrize("keyed", [True, False])
async def test_tries_that_left_nothing_at_the_gateway_hide_no_later_one(keyed: bool) -> None:
    """However many there were: they have all used the key that the paid one was charged under."""
    async with world(keyed=keyed) as shop:
        await tried(shop, *[Does.THROTTLE] * 3)
        before = await press(shop)
        assert ((await shop.record()).generation, len({send.key for send in (await shop.record()).sends})) == (1, 1)
        await shop.fail_over()
        assert await press(shop) == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_try_that_was_refused_outright_has_its_key_for_itself() -> None:
    """A gateway may have kept the refusal: the next try goes under another key, and is found all the same."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.REFUSE, Does.THROTTLE)
        before = await press(shop)
        assert (await shop.record()).generation == 2
        await shop.fail_over()
        assert await press(shop) == before


@pytest.mark.parametrize("hours", [0, 6])
async def test_try_that_was_lost_is_found_beside_an_older_one_that_left_nothing(hours: int) -> None:
    """The store has the first one only; the next press has a life of its own, or belongs to that one."""
    async with world(keyed=True) as shop:
        await tried(shop, Does.THROTTLE)
        copy = await shop.record()
        before = await press(shop)
        await shop.fail_over(copy)
        await shop.guard.engine.epochs.look()
        shop.clock.advance(3_600.0 * hours)
        assert await press(shop) == before
        assert len(shop.gateway.standing) == 2, "the first order and this one"
