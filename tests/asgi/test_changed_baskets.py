"""A basket that costs something else is another purchase; what was paid for it before is not forgotten by that."""

from __future__ import annotations

import pytest
from shopworld import World, Worlds, charging_handler, rule

from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def a_shop(world: Worlds) -> World:
    return await world(charging_handler, rule(purchase=(json_field("cart"),)))


def paid(shop: World) -> list[int]:
    return [payment.charge.amount_minor for payment in shop.gateway.standing]


async def test_basket_that_costs_what_it_did_again_is_the_one_that_was_paid(world: Worlds) -> None:
    """Changed under a second key, paid so too, and changed back under a third."""
    shop = await a_shop(world)
    first = await shop.pay(key="k1")
    assert (await shop.pay(key="k2", amount=700)).status_code == 201
    back = await shop.pay(key="k3")
    assert (back.status_code, back.json()["situation"]) == (200, "duplicate")
    assert first.status_code == 201
    assert paid(shop) == [1000, 700]


async def test_second_key_whose_changed_basket_was_not_paid_does_not_pay_the_first_again(world: Worlds) -> None:
    """Its record had taken the basket from the order that paid for it, so that nothing else stood in its way."""
    shop = await a_shop(world)
    await shop.pay(key="k1")
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key="k2", amount=700)).status_code == 503
    back = await shop.pay(key="k2")
    assert (back.status_code, back.json()["situation"]) == (200, "duplicate")
    assert paid(shop) == [1000]


async def test_changed_basket_is_bought_again_once_the_window_is_over(world: Worlds) -> None:
    """Then the same basket at the same price is another purchase, as it always was."""
    shop = await a_shop(world)
    await shop.pay(key="k1")
    await shop.pay(key="k2", amount=700)
    shop.clock.advance(901.0)
    assert (await shop.pay(key="k3")).status_code == 201
    assert paid(shop) == [1000, 700, 1000]
