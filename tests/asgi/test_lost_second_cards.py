"""The shop charges by itself; a kept order was declined, and paid by a second card in writes that the store has lost."""

from __future__ import annotations

from typing import Any

import pytest
from copyworld import fail_over, record
from shopworld import Worlds, rule
from spoolworld import ASYNC
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.breaker import Label
from cxguard.core.names import gateway_key
from cxguard.core.outcomes import Charged, Declined, Outcome, Unknown
from cxguard.errors import PaymentDeclined
from cxguard.rules import json_field

pytestmark = pytest.mark.asyncio


async def test_wish_to_cancel_is_about_the_second_card_too(world: Worlds) -> None:
    """Whoever cancels the copy, which waits for another card, gets back what that card has paid: a person sees to it."""
    books: dict[str, Outcome] = {}

    async def pay(request: Request) -> Response:
        return JSONResponse({}, status_code=500)

    async def later(op: Any) -> None:
        books[op.gateway_key()] = Declined()
        raise PaymentDeclined

    async def ask(op: Any) -> Outcome:
        return books.get(op.gateway_key(), Unknown("not_found"))

    by_shop = {"charged_by": "shop", "resolve": ask, "later": later, "terms": "1", "resume_at": "https://shop.example/pay?resume={token}"}
    shop = await world(pay, rule(**by_shop, resume_token=json_field("resume")), faulty=True)
    await shop.guard.engine.epochs.lost_since()
    shop.guard.engine.breakers.force("shop:POST /pay", "charge", Label.OPEN, reason="maintenance", seconds=60.0)
    page = (await shop.pay(**ASYNC)).json()["status_url"]
    shop.guard.engine.breakers.force("shop:POST /pay", "charge", None)
    shop.clock.advance(120.0)
    await shop.rest()
    copy = await record(shop)
    assert copy.why == "card_declined"
    books[gateway_key(copy.id, step="charge", generation=2)] = Charged(1000, "EUR", payment_id="pay-2")
    await fail_over(shop, copy)
    await shop.client.post(f"{page}/cancel", headers={"accept": "application/json"})
    await shop.rest()
    held = await record(shop)
    assert (held.why, held.money, held.cancel_asked) == ("refund_due", "charged", True)
