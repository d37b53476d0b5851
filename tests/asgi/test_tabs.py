"""What is told in each tab, of a purchase that came to nothing in another, or was turned away."""

from __future__ import annotations

import pytest
from shopworld import Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.breaker_policy import BreakerPolicy
from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


async def test_a_purchase_that_came_to_nothing_in_two_tabs_is_paid_in_the_first_one(world: Worlds) -> None:
    """The second tab has taken the purchase over, and gives it back."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),)))
    shop.gateway.will(*[Does.REFUSE] * 2)
    told = [(await shop.pay(key=key)).status_code for key in ("one", "two", "one")]
    assert (told[-1], len(shop.gateway.standing)) == (201, 1), told


async def test_a_submit_that_the_shops_own_breaker_turns_away_is_told_that_nothing_is_kept(world: Worlds) -> None:
    """Its handler has failed again and again, and is not run: no page, and nothing to cancel."""

    async def fails(request: Request) -> Response:
        return JSONResponse({}, status_code=500)

    shop = await world(fails, rule(charged_by="shop", rerun_safe=True), breakers=BreakerPolicy(consecutive_failures=3))
    for number in range(3):
        await shop.pay(key=f"k{number}")
    told = (await shop.pay(key="k9")).json()
    assert (told["situation"], told["money"], told.get("reference")) == ("not_kept", "not_charged", None)
