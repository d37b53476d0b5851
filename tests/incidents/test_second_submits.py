"""Stories of real shops: the same order came twice, from the same shopper, tab, device, gateway or robot."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from incidentshop import ASYNC, Books, only, settle, when_hanging
from shopworld import KEYS, SECRET, SHOP, Worlds, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.guard import Guard
from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


def body(**members: Any) -> dict[str, Any]:
    return {"amount": 1000, "currency": "EUR", "cart": "c1", **members}


async def test_a_reload_in_the_middle_with_a_new_csrf_token_is_the_same_order(world: Worlds) -> None:
    """The page is sent again before the answer came, with another token and the same cart: one charge, one answer.

    https://github.com/woocommerce/woocommerce-gateway-stripe/issues/4878
    """
    books = Books()
    shop = await world(books.handler, rule(key=json_field("cart"), ignore_fields=("csrf",), wait_seconds=5.0))
    shop.gateway.will(Does.CHARGE_THEN_HANG)

    def submit(token: str) -> Any:
        return shop.client.post("/pay", json=body(csrf=token), headers={"x-user": "ann"})

    first = await when_hanging(shop, submit("one"))
    second = asyncio.ensure_future(submit("two"))
    await asyncio.sleep(0)
    await shop.gateway.release()
    answers = [await first, await second]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert len(shop.gateway.payments) == 1


async def test_the_key_survives_the_retry(world: Worlds) -> None:
    """Each attempt of the shop would have made a new key: the gateway sees one.

    https://github.com/woocommerce/woocommerce-gateway-stripe/issues/2477
    """
    books = Books()
    shop = await world(books.handler, rule(key=json_field("cart")))
    shop.gateway.will(Does.UNKNOWN, Does.UNKNOWN)
    for _ in range(3):
        await shop.pay(key=None, **ASYNC)
        await settle(shop, rounds=2)
    assert len({call.key for call in shop.gateway.calls if call.verb == "charge"}) == 1
    assert len(shop.gateway.payments) == 1


async def test_two_tabs_and_two_devices_pay_one_cart_once(world: Worlds) -> None:
    """The same cart at the same moment, each tab with a key of its own.

    https://github.com/magento/magento2/issues/13952
    https://github.com/vendurehq/vendure/issues/2620
    """
    books = Books()
    shop = await world(books.handler, rule(purchase=(json_field("cart"),), wait_seconds=5.0))
    answers = await asyncio.gather(*(shop.pay(key=f"tab-{n}", **ASYNC) for n in range(4)))
    assert (len(shop.gateway.payments), len(books.orders)) == (1, 1)
    assert sum(answer.status_code == 201 for answer in answers) == 1
    assert all(answer.json().get("money", "charged") in ("charged", "unknown") for answer in answers)


async def test_a_double_click_on_several_web_heads_is_one_order(world: Worlds) -> None:
    """Twenty clicks over two processes that share a store.

    https://github.com/magento/magento2/issues/10767
    https://github.com/PrestaShop/PrestaShop/issues/16490
    https://github.com/PrestaShop/PrestaShop/issues/17266
    """
    books = Books()
    the_rule = rule(wait_seconds=5.0)
    shop = await world(books.handler, the_rule)
    async with AsyncExitStack() as stack:
        other = Guard(
            shop.store, rules=[the_rule], shop=SHOP, gateways=[shop.gateway], secret=SECRET, keys=KEYS, duties=False, clock=shop.clock
        )
        await other.start()
        stack.push_async_callback(other.finish_runs)
        app = GuardMiddleware(Starlette(routes=[Route("/pay", books.handler, methods=["POST"])]), guard=other)
        second = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example")
        )
        headers = {"x-user": "ann", "idempotency-key": "k1"}
        clients = [shop.client, second] * 10
        answers = await asyncio.gather(*(client.post("/pay", json=body(), headers=headers) for client in clients))
        other.engine.operations.leases.stop()
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert (len(shop.gateway.payments), books.orders) == (1, ["c1"])


async def test_the_same_lines_in_a_new_cart_minutes_later_are_asked_about(world: Worlds) -> None:
    """The retry gets a new cart id, which a key for each cart cannot see: the shopper is asked, and may confirm.

    https://github.com/PrestaShopCorp/ps_checkout/pull/1546
    """
    books = Books()
    shop = await world(books.handler, rule(key=json_field("cart"), purchase=(json_field("lines"),)))

    def submit(cart: str, **headers: str) -> Any:
        return shop.client.post("/pay", json=body(cart=cart, lines="tea, cup"), headers={"x-user": "ann", **ASYNC, **headers})

    await submit("cart-1")
    shop.clock.advance(300.0)
    second = await submit("cart-2")
    assert (second.json()["situation"], len(shop.gateway.payments)) == ("duplicate", 1)
    confirmed = await submit("cart-2", **{"cxguard-confirm-duplicate": second.json()["reference"]})
    assert (confirmed.status_code, len(shop.gateway.payments)) == (201, 2)


async def test_a_good_card_after_a_declined_one_pays_under_the_same_order(world: Worlds) -> None:
    """One key for each order, and the gateway would refuse the second card for ever: a definite decline opens a new life."""
    books = Books()
    shop = await world(books.handler, rule(key=json_field("cart")))
    shop.gateway.will(Does.DECLINE)

    def submit(card: str) -> Any:
        return shop.client.post("/pay", json=body(card=card), headers={"x-user": "ann"})

    assert (await submit("tok_bad")).status_code == 402
    assert (await submit("tok_good")).status_code == 201
    sends = (await only(shop)).sends
    assert len({send.key for send in sends}) == 2
    assert len(shop.gateway.standing) == 1


async def test_the_losers_of_a_double_click_leave_the_winners_session_alone(world: Worlds) -> None:
    """Each answer of the shop sets a session cookie; an empty basket in a loser's would overwrite the winner's."""
    books = Books()

    async def with_session(request: Request) -> Response:
        answer = await books.handler(request)
        answer.set_cookie("session", "basket emptied")
        return answer

    shop = await world(with_session, rule(wait_seconds=5.0))
    answers = await asyncio.gather(*(shop.pay() for _ in range(5)))
    assert sum("set-cookie" in answer.headers for answer in answers) == 1
    assert {answer.status_code for answer in answers} == {201}
