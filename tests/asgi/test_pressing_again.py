"""A shopper who presses again and again while nobody knows what became of the money."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import World, Worlds

from cxguard.core.outcomes import Unknown
from cxguard.core.resolve import LOOKS_MAX
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def only(shop: World) -> Any:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def test_pressing_again_neither_puts_off_the_queue_nor_uses_up_its_looks(world: Worlds) -> None:
    """The order's due time and timeline stay as they were: the queue comes to its turn, and no person is bothered early."""
    shop = await world()
    shop.gateway.will(Does.UNKNOWN)
    assert (await shop.pay()).json()["situation"] == "unknown"
    before = await only(shop)
    for _ in range(LOOKS_MAX + 3):
        shop.clock.advance(1.5)
        assert (await shop.pay()).json()["situation"] == "unknown"
    after = await only(shop)
    assert (after.due_at, after.history, after.attempts) == (before.due_at, before.history, before.attempts)
    await shop.rest()
    assert (await shop.pay()).json()["money"] == "charged"
    assert len(shop.gateway.standing) == 1


async def test_pressing_again_at_once_does_not_ask_the_gateway_again(world: Worlds) -> None:
    """Nobody can have the guard ask a gateway a hundred times a second."""
    shop = await world()
    shop.gateway.will(Does.UNKNOWN)
    await shop.pay()
    asked = shop.gateway.count("find")
    for _ in range(5):
        await shop.pay()
    assert shop.gateway.count("find") == asked


async def test_pressing_again_tells_what_has_become_known(world: Worlds) -> None:
    """The gateway was silent at first; a second later it is asked for the shopper who presses again."""
    shop = await world()
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")])
    assert (await shop.pay()).json()["money"] == "unknown"
    shop.clock.advance(1.5)
    assert (await shop.pay()).json()["money"] == "charged"
    assert len(shop.gateway.standing) == 1
