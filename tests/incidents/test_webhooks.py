"""Stories of real shops: the gateway's own word came before, after, without or against the answer."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from incidentshop import ASYNC, Books, charge_key, only, settle, when_hanging
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import Response

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.operation import State
from cxguard.core.outcomes import Charged, Declined
from cxguard.errors import OperationInFlight
from cxguard.rules import Rule, json_field
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio


def keeping(books: Books, **changes: Any) -> Rule:
    return rule(**{"later": books.later, "terms": "2026-01", **changes})


async def webhook(shop: World, *, event_id: str = "evt_1", outcome: Any = None, payment: str = "pay_1") -> None:
    """The gateway tells what it did."""
    await shop.guard.note(outcome or Charged(1000, "EUR", payment), event_id=event_id, gateway_key=await charge_key(shop))


@pytest.mark.parametrize("first", ["webhook", "submit"])
async def test_a_webhook_and_the_submit_race_and_there_is_one_payment(world: Worlds, first: str) -> None:
    """Whoever completes the checkout first, the other finds it done; no second intent is made.

    https://github.com/saleor/saleor/issues/19220
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    shop.gateway.will(Does.CHARGE_THEN_HANG)
    submit = await when_hanging(shop, shop.pay())
    if first == "webhook":
        await webhook(shop)
        await shop.gateway.release()
    else:
        await shop.gateway.release()
        await submit
        await webhook(shop)
    assert (await submit).status_code == 201
    await settle(shop, rounds=3)
    assert (len(shop.gateway.payments), books.orders, (await only(shop)).state) == (1, ["c1"], State.FINISHED)


async def test_a_checkout_that_the_webhook_has_deleted_is_told_as_paid(world: Worlds) -> None:
    """The webhook completed the order and removed the checkout while the submit ran: the submit finds nothing.

    https://github.com/saleor/saleor/issues/12652
    """
    books = Books()

    async def handler(request: Request) -> Response:
        await books.handler(request)
        raise LookupError("there is no such checkout")

    shop = await world(handler, keeping(books))
    answer = await shop.pay(**ASYNC)
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")


async def test_confirm_and_webhook_complete_many_orders_and_none_is_lost(world: Worlds) -> None:
    """Fifty orders, each confirmed by the shopper and by a webhook, in an order of its own: fifty charges, fifty orders.

    https://github.com/medusajs/medusa/issues/13301
    """
    books, dice = Books(), random.Random(13_301)
    never = BreakerPolicy(consecutive_failures=1_000, calls_min=1_000)
    shop = await world(books.handler, keeping(books), breakers=never)

    async def one(n: int) -> None:
        mine: dict[str, Any] = {"key": f"k{n}", "cart": f"c{n}", **ASYNC}
        shop.gateway.will(dice.choice([Does.CHARGE, Does.CHARGE_THEN_UNKNOWN]))
        await shop.pay(**mine)
        payment = next(each for each in shop.gateway.payments if each.charge.order_id == f"c{n}")
        for event in range(dice.choice([0, 1, 2])):
            await shop.guard.note(Charged(1000, "EUR", payment.id), event_id=f"evt_{n}_{event // 2}", gateway_key=payment.key)
        await shop.pay(**mine)

    for n in range(50):
        await one(n)
    await settle(shop, rounds=4)
    assert sorted(books.orders) == sorted(f"c{n}" for n in range(50))
    assert len(shop.gateway.standing) == len(shop.gateway.payments) == 50


@pytest.mark.parametrize("late", ["loser", "notice"])
async def test_a_late_failure_never_wins_over_a_success(world: Worlds, late: str) -> None:
    """The loser's failure, or a failure notice that comes late, does not overwrite what was paid.

    https://github.com/spree/spree/pull/4499
    https://github.com/woocommerce/woocommerce/issues/21083
    """
    books = Books()
    shop = await world(books.handler, keeping(books))
    first = await shop.pay()
    if late == "loser":
        books.failing["order"] = 1
        assert (await shop.pay()).content == first.content
    else:
        await webhook(shop, event_id="evt_late", outcome=Declined())
    await settle(shop, rounds=3)
    assert ((await only(shop)).state, (await only(shop)).money) == (State.FINISHED, "charged")
    assert (await shop.pay()).content == first.content


async def test_the_shop_and_its_webhook_charge_one_order_once(world: Worlds) -> None:
    """A second apart, the API and the webhook both complete the payment in the shop's own code.

    https://github.com/spree/spree/issues/9265
    """
    books = Books()
    shop = await world(books.handler)

    async def complete(op: Any) -> dict[str, str]:
        return await books.complete(op, {"amount": 1000, "currency": "EUR", "cart": "R123"})

    async def run() -> Any:
        try:
            return await shop.guard.run(complete, purpose="complete", key="R123", owner="ann")
        except OperationInFlight:
            return None

    results = await asyncio.gather(run(), run())
    assert (await run()) in results
    assert (len(shop.gateway.payments), books.orders) == (1, ["R123"])


async def test_a_payment_that_the_webhook_settled_first_shows_no_error(world: Worlds) -> None:
    """The handler fails because the payment is settled already: the shopper hears that it is paid.

    https://github.com/vendurehq/vendure/pull/3749
    """
    books = Books()

    async def confused(request: Request) -> Response:
        await books.handler(request)
        raise RuntimeError("payment is already settled")

    shop = await world(confused, keeping(books, purchase=(json_field("cart"),)))
    shop.gateway.will(Does.CHARGE_THEN_HANG)
    submit = await when_hanging(shop, shop.pay(**ASYNC))
    await webhook(shop)
    await shop.gateway.release()
    assert (await submit).json()["money"] == "charged"
