"""Whatever breaks around a submit, nobody is shown a bare error about their money."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import Worlds, charging_handler, rule

from cxguard.rules import Arrival

pytestmark = pytest.mark.asyncio


async def test_an_owner_look_up_that_raises_is_an_honest_503(world: Worlds) -> None:
    """Nothing was opened, and the shopper hears that this submit charged nothing."""

    async def broken(arrival: Arrival) -> str:
        raise RuntimeError("the user service is down")

    shop = await world(charging_handler, rule(owner=broken))
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["situation"]) == (503, "store_away")
    assert shop.gateway.standing == []


async def test_a_guard_that_breaks_after_the_charge_says_that_it_does_not_know(world: Worlds) -> None:
    """The answer cannot even be kept; "do not pay again" is still said."""
    shop = await world()

    async def save(*args: Any, **kwargs: Any) -> Any:
        if shop.gateway.standing:
            raise RuntimeError("a bug in the store")
        return await kept(*args, **kwargs)

    kept = shop.store.save
    shop.store.save = save  # type: ignore[method-assign]
    answer = await shop.pay()
    assert (answer.json()["situation"], answer.json()["money"]) == ("unknown", "unknown")
    assert len(shop.gateway.standing) == 1
