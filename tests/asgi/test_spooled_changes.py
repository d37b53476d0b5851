"""What a shopper changed or wished while the store was away, of an order that was there before: one order, and the last word counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from shopworld import Worlds
from spoolworld import keeping, spool_world

from cxguard.core.reading import Reading
from cxguard.rules import json_field, per_purchase
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def test_changed_basket_of_a_shopper_without_a_key_is_what_is_charged(world: Worlds, tmp_path: Path) -> None:
    """Its request is sealed anew for the order that was there, whose name is another one: that is how it can be placed."""
    reads = {Reading.SUCCEEDED: lambda answer: answer.status == 201}
    shop = await spool_world(world, tmp_path, keeping(key=per_purchase("GET /thanks"), purchase=(json_field("cart"),), reads=reads))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.press(key=None, cart="c1")).json()["situation"] == "kept"
    shop.clock.advance(1.0)
    shop.go_away()
    assert (await shop.press(key=None, cart="c2", amount=2500)).json()["situation"] == "spooled"
    await shop.come_back()
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [2500]


async def test_wish_to_cancel_that_waits_in_the_spool_is_about_the_life_that_its_shopper_sees(world: Worlds, tmp_path: Path) -> None:
    """The order was cancelled once before, and bought again: the second wish is not taken for the first one."""
    shop = await spool_world(world, tmp_path, keeping(key=json_field("cart")))
    shop.gateway.otherwise = Does.NOT_CHARGED
    first = await shop.press(key=None)
    await shop.client.post(f"{first.json()['status_url']}/cancel", headers={"accept": "application/json"})
    assert (await shop.page(first))["situation"] == "cancelled"
    shop.clock.advance(60.0)
    again = await shop.press(key=None)
    assert again.json()["situation"] == "kept"
    shop.go_away()
    await shop.press(key=None)
    await shop.client.post(f"{again.json()['status_url']}/cancel", headers={"accept": "application/json"})
    await shop.come_back()
    shop.gateway.otherwise = Does.CHARGE
    await shop.rest()
    assert ((await shop.page(again))["situation"], shop.gateway.standing) == ("cancelled", [])
