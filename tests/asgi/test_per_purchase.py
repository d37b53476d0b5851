"""`per_purchase`: shops whose submit carries no basket identity have one current purchase for each owner."""

from __future__ import annotations

import json
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from shopworld import World, Worlds, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cxguard import Charge, Reading, current_operation, has_status, json_field, per_purchase, redirects_to

pytestmark = pytest.mark.asyncio


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], "EUR", source="tok_ok"))
    return JSONResponse({"order": payment.payment_id}, status_code=201)


async def thank_you(request: Request) -> Response:
    return JSONResponse({"thanks": True})


async def shop_with(world: Worlds, **changes: Any) -> World:
    app = Starlette(routes=[Route("/pay", pay, methods=["POST"]), Route("/thank-you", thank_you)])
    reads = {Reading.SUCCEEDED: has_status(201)}
    return await world(None, rule(key=per_purchase(done="GET /thank-you*"), reads=reads, **changes), app=app)


async def test_a_reload_is_the_same_purchase_and_gets_its_answer(world: Worlds) -> None:
    """No key, no cart: the second submit is the first one again."""
    shop = await shop_with(world)
    first, second = await shop.pay(key=None), await shop.pay(key=None)
    assert second.json() == first.json()
    assert len(shop.gateway.standing) == 1


async def test_after_the_confirmation_was_served_the_next_submit_is_a_new_purchase(world: Worlds) -> None:
    """The same basket on purpose: the shopper has seen that the first one is done."""
    shop = await shop_with(world)
    await shop.pay(key=None)
    await shop.client.get("/thank-you", headers={"x-user": "ann"})
    second = await shop.pay(key=None)
    assert second.status_code == 201
    assert len(shop.gateway.standing) == 2


async def test_a_changed_basket_is_a_new_purchase(world: Worlds) -> None:
    """Where the rule names what is bought."""
    shop = await shop_with(world, purchase=(json_field("cart"),))
    await shop.pay(key=None, cart="a")
    await shop.pay(key=None, cart="b")
    assert len(shop.gateway.standing) == 2


async def test_after_the_window_the_next_submit_is_a_new_purchase(world: Worlds) -> None:
    """Also when the confirmation was never seen."""
    shop = await shop_with(world)
    await shop.pay(key=None)
    shop.clock.advance(1801.0)
    await shop.pay(key=None)
    assert len(shop.gateway.standing) == 2


@pytest.mark.parametrize("place", ["/thank-you/", "/thank-you?of="])
async def test_confirmation_of_an_older_order_ends_nothing(world: Worlds, place: str) -> None:
    """A browser opens the tabs of yesterday again, and its shopper presses again: that is the order that was paid a moment ago."""

    async def pay_and_lead(request: Request) -> Response:
        paid = json.loads((await pay(request)).body)
        return RedirectResponse(f"{place}{paid['order']}", status_code=303)

    routes = [Route("/pay", pay_and_lead, methods=["POST"]), Route("/thank-you", thank_you), Route("/thank-you/{order}", thank_you)]
    reads = {Reading.SUCCEEDED: redirects_to("/thank-you*")}
    shop = await world(None, rule(key=per_purchase(done="GET /thank-you*"), reads=reads), app=Starlette(routes=routes))
    for count, seen in ((1, "pay_1"), (2, "pay_1"), (2, "pay_2"), (3, "pay_3")):
        await shop.pay(key=None)
        await shop.client.get(f"{place}{seen}", headers={"x-user": "ann"})
        assert len(shop.gateway.standing) == count


@pytest.mark.parametrize(
    ("leads_to", "done", "older", "own"),
    [
        ("/api/thank-you/{order}", "/thank-you*", "/api/thank-you/pay_0", "/api/thank-you/pay_1"),
        ("/thank-you/{order}", "/api/thank-you*", "/api/thank-you/pay_0", "/api/thank-you"),
        ("/thank-you?of={order}", "/thank-you*", "/api/thank-you?of=pay_0", "/api/thank-you"),
    ],
)
async def test_own_confirmation_below_a_root_path(world: Worlds, leads_to: str, done: str, older: str, own: str) -> None:
    """However a proxy has it written. It may lead on to a page that names no order: that is not another one's."""

    async def pay_and_lead(request: Request) -> Response:
        paid = json.loads((await pay(request)).body)
        return RedirectResponse(leads_to.format(order=paid["order"]), status_code=303)

    routes = [Route("/pay", pay_and_lead, methods=["POST"]), Route("/thank-you", thank_you), Route("/thank-you/{order}", thank_you)]
    reads = {Reading.SUCCEEDED: redirects_to("*thank-you*")}
    shop = await world(None, rule(key=per_purchase(done=f"GET {done}"), reads=reads), app=Starlette(routes=routes))
    told: Any = {"headers": {"x-user": "ann"}}
    async with AsyncClient(transport=ASGITransport(shop.app, root_path="/api"), base_url="http://shop.example") as below:
        for page, count in ((older, 1), (older, 1), (own, 2)):
            await below.post("/api/pay", json={"amount": 4999, "currency": "EUR"}, **told)
            assert len(shop.gateway.standing) == 1
            await below.get(page, **told)
            await below.post("/api/pay", json={"amount": 4999, "currency": "EUR"}, **told)
            assert len(shop.gateway.standing) == count


async def test_another_shoppers_confirmation_ends_nothing(world: Worlds) -> None:
    """The page ends the purchase of the owner that it was served to."""
    shop = await shop_with(world)
    await shop.pay(key=None)
    await shop.client.get("/thank-you", headers={"x-user": "bob"})
    await shop.pay(key=None)
    assert len(shop.gateway.standing) == 1
