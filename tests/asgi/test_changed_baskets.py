"""A basket that costs something else is another purchase; what was paid for it before is not forgotten by that."""

from __future__ import annotations

from typing import Any

import pytest
from copyworld import fail_over, record
from shopworld import Till, World, Worlds, charging_handler, rule
from spoolworld import ASYNC, keeping
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.outcomes import Unknown
from cxguard.engine.handle import current_operation
from cxguard.rules import header, json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
AGREES = {"x-agrees": "true"}


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


# --- a name that is used for another basket


async def test_key_that_was_let_go_and_buys_another_basket_leaves_the_first_to_others(world: Worlds) -> None:
    """Nothing of the first basket was bought under it: whoever orders that under a key of its own is not asked whether it is twice."""
    shop = await a_shop(world)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key="k1", cart="c1")).status_code == 503
    assert (await shop.pay(key="k1", cart="c2")).status_code == 201
    assert (await shop.pay(key="k2", cart="c1")).status_code == 201
    twice = await shop.pay(key="k3", cart="c2")
    assert (twice.status_code, twice.json()["situation"]) == (200, "duplicate")
    assert paid(shop) == [1000, 1000]


async def test_kept_order_whose_basket_was_changed_is_known_by_the_new_one_alone(world: Worlds) -> None:
    """Who orders the first one under another name is not asked whether it is twice."""
    shop = await world(charging_handler, keeping(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key=None, cart="c1", **ASYNC)).json()["situation"] == "kept"
    assert (await shop.pay(key=None, cart="c1", amount=2500, **ASYNC)).json()["situation"] == "replaced"
    assert (await shop.pay(key=None, cart="c2")).status_code == 201
    assert (await shop.pay(key=None, cart="c3", amount=2500, **ASYNC)).json()["situation"] == "duplicate_running"
    shop.clock.advance(61.0)
    await shop.rest()
    assert sorted(paid(shop)) == [1000, 2500]


async def test_order_that_stays_as_it_was_kept_is_not_known_by_the_basket_that_it_did_not_take(world: Worlds) -> None:
    """Its shopper did not agree to be charged for the other one later."""
    options: dict[str, Any] = {"key": json_field("cart"), "purchase": (json_field("amount"),), "consent": header("x-agrees")}
    shop = await world(charging_handler, keeping(**options))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key=None, cart="c1", **ASYNC, **AGREES)).json()["situation"] == "kept"
    assert (await shop.pay(key=None, cart="c1", amount=2500, **ASYNC)).json()["situation"] == "kept"
    assert (await shop.pay(key=None, cart="c2", amount=2500)).status_code == 201
    assert (await shop.pay(key=None, cart="c3", **ASYNC)).json()["situation"] == "duplicate_running"
    shop.clock.advance(61.0)
    await shop.rest()
    assert sorted(paid(shop)) == [1000, 2500]


async def test_charge_that_is_found_is_known_by_the_basket_it_paid_for(world: Worlds) -> None:
    """Sent again with another basket, under a name that the shop gives: nobody has answered for the first one until then."""
    shop = await world(charging_handler, rule(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")])
    assert (await shop.pay(key=None, cart="c1")).json()["money"] == "unknown"
    shop.clock.advance(61.0)
    assert (await shop.pay(key=None, cart="c1", amount=2500)).json()["money"] == "charged"
    assert (await shop.pay(key=None, cart="c2", amount=2500)).status_code == 201
    assert (await shop.pay(key=None, cart="c3")).json()["situation"] == "duplicate_running"
    assert paid(shop) == [1000, 2500]


async def test_kept_order_that_may_have_been_paid_is_known_by_what_it_was_before_too(world: Worlds) -> None:
    """It was placed, the store lost that, and then its basket was changed: nobody has asked the gateway yet."""
    shop = await world(charging_handler, keeping(key=json_field("cart"), purchase=(json_field("amount"),)), faulty=True)
    await shop.guard.engine.epochs.lost_since()
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(key=None, cart="c1", **ASYNC)).json()["situation"] == "kept"
    copy = await record(shop)
    shop.clock.advance(61.0)
    await shop.rest()
    assert paid(shop) == [1000]
    await fail_over(shop, copy)
    await shop.pay(key=None, cart="c1", amount=2500, **ASYNC)
    assert (await shop.pay(key=None, cart="c2")).json()["situation"] == "duplicate_running"
    assert paid(shop) == [1000]


async def test_charge_that_nobody_knows_of_is_known_by_the_basket_it_was_for(world: Worlds) -> None:
    """Sent again with another basket, and asked about in vain."""
    shop = await world(charging_handler, rule(key=json_field("cart"), purchase=(json_field("amount"),)))
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time")] * 2)
    assert (await shop.pay(key=None, cart="c1")).json()["money"] == "unknown"
    shop.clock.advance(2.0)
    assert (await shop.pay(key=None, cart="c1", amount=2500)).json()["money"] == "unknown"
    assert (await shop.pay(key=None, cart="c2", amount=2500)).status_code == 201
    assert (await shop.pay(key=None, cart="c3")).json()["situation"] == "duplicate_running"
    assert paid(shop) == [1000, 2500]


async def test_charge_of_a_shop_that_may_have_been_for_the_first_basket_is_known_by_both(world: Worlds) -> None:
    """Its handler is run again for another one, and passes the key of before on: what was paid is the first."""
    till = Till()

    async def fails_once(request: Request) -> Response:
        paid_already = bool(till.charges)
        till.charge((await request.json())["cart"], key=current_operation().gateway_key("charge"))
        if not paid_already:
            raise RuntimeError("the answer was lost")
        return JSONResponse({}, status_code=201)

    async def ask(op: Any) -> Unknown:
        return Unknown("no answer in time")

    names: dict[str, Any] = {"key": json_field("name"), "purchase": (json_field("cart"),)}
    shop = await world(fails_once, rule(**names, charged_by="shop", resolve=ask, rerun_safe=True))

    async def send(name: str, cart: str) -> Any:
        body = {"name": name, "cart": cart, "amount": 1000, "currency": "EUR"}
        return await shop.client.post("/pay", json=body, headers={"x-user": "ann"})

    assert (await send("one", "c1")).json()["money"] == "unknown"
    shop.clock.advance(61.0)
    assert (await send("one", "c2")).status_code == 201
    assert (await send("two", "c1")).json()["situation"] == "duplicate"
    assert till.charges == ["c1"]
