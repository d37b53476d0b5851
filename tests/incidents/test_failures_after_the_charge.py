"""Stories of real shops: the money was taken, and then something else went wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from incidentshop import ASYNC, Books, only, settle
from shopworld import Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import State
from cxguard.core.outcomes import Unknown
from cxguard.engine.handle import current_operation
from cxguard.rules import Rule, json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


def keeping(books: Books, **changes: Any) -> Rule:
    return rule(**{"later": books.later, "terms": "2026-01", **changes})


async def test_an_order_that_cannot_be_written_after_the_charge_is_not_paid_again(world: Worlds) -> None:
    """The order number comes from the basket, and the order fails after the money was taken: the retry pays nothing.

    https://github.com/django-oscar/django-oscar/issues/4246
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    books.failing["order"] = 1
    first = await shop.pay(**ASYNC)
    assert (first.status_code, first.json()["money"], first.json()["situation"]) == (202, "charged", "paid_unfinished")
    await settle(shop)
    second = await shop.pay(**ASYNC)
    assert (second.status_code, second.json()["money"]) == (200, "charged")
    assert (len(shop.gateway.payments), books.orders) == (1, ["c1"])


async def test_a_mail_that_fails_after_the_order_is_no_failure_of_the_order(world: Worlds) -> None:
    """The order is saved, then the mail fails: the shopper hears "paid", and the order is not written twice.

    https://github.com/django-oscar/django-oscar/issues/3768
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    books.failing["mail"] = 1
    first = await shop.pay(**ASYNC)
    assert (first.status_code, first.json()["money"]) == (202, "charged")
    await settle(shop)
    assert (books.orders, len(books.mails), len(shop.gateway.payments)) == (["c1"], 1, 1)


async def test_a_validation_error_after_the_return_from_the_bank_is_told_as_paid(world: Worlds) -> None:
    """Charged, then the shop refuses its own order with a 400: not "refused", and no refund is forgotten.

    https://github.com/saleor/saleor/issues/10925
    """
    books = Books()

    async def refusing(request: Request) -> Response:
        await books.handler(request)
        return JSONResponse({"error": "the voucher has expired"}, status_code=400)

    shop = await world(refusing, keeping(books))
    answer = await shop.pay(**ASYNC)
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")
    assert len(shop.gateway.payments) == 1


@pytest.mark.parametrize("times", [2, 5])
async def test_a_second_completion_charges_nothing(world: Worlds, times: int) -> None:
    """The checkout is completed again although it is paid, from outside and inside of one run.

    https://github.com/saleor/saleor/issues/12229
    https://github.com/saleor/saleor/issues/14651
    """
    books = Books()

    async def eager(request: Request) -> Response:
        body = await request.json()
        results = [await books.complete(current_operation(), body) for _ in range(times)]
        return JSONResponse(results[-1], status_code=201)

    shop = await world(eager)
    answers = [await shop.pay() for _ in range(times)]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert (shop.gateway.count("charge"), len(books.orders)) == (1, 1)


async def test_an_error_page_after_success_leads_to_no_second_order(world: Worlds) -> None:
    """An exception in a hook shows an error over a paid order, and the shopper orders the same basket again.

    https://github.com/woocommerce/woocommerce/issues/14541
    """
    books = Books()

    async def hooked(request: Request) -> Response:
        await books.handler(request)
        raise RuntimeError("a plugin")

    shop = await world(hooked, keeping(books, purchase=(json_field("cart"),)))
    first = await shop.pay(key="k1", **ASYNC)
    assert first.json()["money"] == "charged"
    await settle(shop, rounds=3)
    second = await shop.pay(key="k2", **ASYNC)
    assert second.json()["situation"] == "duplicate"
    assert second.json()["reference"] == first.json()["reference"]
    assert (len(shop.gateway.payments), len(books.orders)) == (1, 1)


@pytest.mark.parametrize("failures", [1, 3, 6])
async def test_there_is_always_a_way_out_of_a_failed_completion(world: Worlds, failures: int) -> None:
    """The order fails again and again: it is tried on, never charged again, and at last it is placed.

    https://github.com/medusajs/medusa/issues/6745
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    books.failing["order"] = failures
    assert (await shop.pay(**ASYNC)).json()["money"] == "charged"
    await settle(shop, rounds=40, seconds=1_800.0)
    assert ((await only(shop)).state, books.orders, len(shop.gateway.payments)) == (State.FINISHED, ["c1"], 1)


async def test_a_payment_whose_browser_never_came_back_gets_its_order(world: Worlds) -> None:
    """No browser, no webhook: the worker asks the gateway, finds the charge, and places the order.

    https://github.com/PrestaShop/PrestaShop/issues/25530
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    shop.gateway.will_say("find", [Unknown("processing")])
    assert (await shop.pay(**ASYNC)).json()["situation"] == "unknown"
    await settle(shop)
    assert (books.orders, len(shop.gateway.payments), (await only(shop)).money) == (["c1"], 1, "charged")


async def test_a_payment_that_is_still_open_is_being_checked_and_has_not_failed(world: Worlds) -> None:
    """Status "open" at the gateway: never "not successful".

    https://github.com/mollie/PrestaShop/issues/1442
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("processing")] * 3)
    answer = await shop.pay(**ASYNC)
    assert (answer.json()["situation"], answer.json()["money"], answer.json()["safe_to_retry"]) == ("unknown", "unknown", False)


async def test_an_order_that_was_accepted_is_not_called_paid(world: Worlds) -> None:
    """The gateway timed out on confirming, and the shop wrote the order all the same: nobody hears "paid".

    https://github.com/spree-contrib/spree_paypal_express/issues/27
    """
    books = Books()

    async def optimistic(request: Request) -> Response:
        try:
            return await books.handler(request)
        except Exception:
            order = await books.place("c1", "nothing")
            return JSONResponse({"order": order}, status_code=201)

    shop = await world(optimistic)
    shop.gateway.will(Does.UNKNOWN)
    answer = await shop.pay(**ASYNC)
    assert (answer.status_code, answer.json()["money"]) == (202, "unknown")


async def test_the_last_item_is_paid_for_once(world: Worlds) -> None:
    """Three shoppers' orders wait through an outage for one last item: one pays, two are never charged, and each is told.

    https://github.com/openfoodfoundation/openfoodnetwork/issues/3925
    """
    books = Books(stock=1)

    async def later(op: Any) -> dict[str, str]:
        await op.step("reserve", books.reserve)
        return await books.later(op)

    shop = await world(books.handler, keeping(books, later=later, give_up_seconds=3_600.0))
    shop.gateway.will(*[Does.NOT_CHARGED] * 9)
    kept = [await shop.pay(owner=owner, key=owner, cart=owner, **ASYNC) for owner in ("ann", "bob", "cy")]
    assert [answer.json()["situation"] for answer in kept] == ["kept"] * 3
    await settle(shop, rounds=40, seconds=300.0)
    assert len(shop.gateway.payments) == len(books.orders) == 1
    told = [
        (await shop.client.get(answer.json()["status_url"], headers={"accept": "application/json"})).json() for answer in kept
    ]
    assert sorted(each["money"] for each in told) == ["charged", "not_charged", "not_charged"]


async def test_the_answer_waits_for_the_shops_commit(world: Worlds) -> None:
    """The framework commits after its last byte: whoever hears the answer finds the order written."""
    committed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"ok": true}'})
        await asyncio.sleep(0)  # the commit comes a moment later
        committed.set()

    shop = await world(None, rule(), app=app)
    await shop.pay()
    assert committed.is_set()
