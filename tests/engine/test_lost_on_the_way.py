"""What a lost life sent right before the failover is still on its way, and the gateway says "not charged" to a later send.

Under a key that is honoured it is the same charge as the later one, so nothing is charged twice. But nobody may be told that
nothing is charged, and no other gateway be asked, before it must have shown up.
"""

from __future__ import annotations

import pytest
from lostworld import World, world

from cxguard.core.names import gateway_key
from cxguard.engine.library import Purpose
from cxguard.errors import PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


async def turned_away(shop: World, *does: Does) -> None:
    """A press that looks new, at a gateway that finds nothing, and then charges nothing."""
    shop.gateway.will(*does)
    with pytest.raises(PaymentDeferred):
        await shop.press()


async def land(shop: World) -> None:
    """The charge of the lost life arrives."""
    key = gateway_key((await shop.record()).id, step="charge", generation=1)
    await shop.gateway.charge(Charge(4999, "EUR", source="tok_ok"), key=key, timeout_seconds=1.0)


@pytest.mark.parametrize("does", [(Does.NOT_CHARGED,) * 3, (Does.THROTTLE,), (Does.REFUSE,)])
async def test_no_to_a_later_send_is_no_word_about_what_is_on_its_way(does: tuple[Does, ...]) -> None:
    """The order is unknown; the late charge is found, and is the only one."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await turned_away(shop, *does)
        assert (await shop.record()).money == "unknown"
        await land(shop)
        shop.clock.advance(3600.0)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("finished", "charged")
        assert len(shop.gateway.standing) == 2, "the first order and this one"


async def test_order_of_which_nothing_was_on_its_way_is_placed() -> None:
    """The same is sent again under the same key, once the gateway takes it."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await turned_away(shop, Does.THROTTLE)
        shop.clock.advance(3600.0)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("finished", "charged")
        assert len(shop.gateway.standing) == 2


async def test_order_that_nobody_keeps_is_let_go_once_nothing_has_shown_up() -> None:
    """It is not sent again while its shopper is away: that would be a payment without an order."""
    async with world(keyed=True) as shop:
        shop.guard.purposes["order"] = Purpose("order")
        await shop.fail_over()
        await turned_away(shop, Does.THROTTLE)
        assert (await shop.record()).money == "unknown"
        shop.clock.advance(3600.0)
        await shop.rest()
        assert ((await shop.record()).state, (await shop.record()).money) == ("cancelled", "none")
        assert (len(shop.gateway.standing), shop.gateway.count("charge")) == (1, 1)


async def test_what_must_have_shown_up_by_now_is_not_waited_for() -> None:
    """Some time after the failover a gateway that finds nothing, and charges nothing, is believed."""
    async with world(keyed=True) as shop:
        await shop.fail_over()
        await shop.guard.engine.epochs.look()
        shop.clock.advance(shop.gateway.settle_seconds)
        await turned_away(shop, Does.THROTTLE)
        assert ((await shop.record()).state, (await shop.record()).money) == ("queued", "none")


async def test_another_gateway_is_not_asked_meanwhile() -> None:
    """The late charge at the first one would be a second one."""
    second = FakeGateway(name="second:test")
    async with world(second, keyed=True) as shop:
        await shop.fail_over()
        await turned_away(shop, Does.THROTTLE)
        await land(shop)
        shop.clock.advance(3600.0)
        await shop.rest()
        assert (len(shop.gateway.standing), len(second.standing)) == (2, 0)
        assert "payment.rerouted" not in shop.events
