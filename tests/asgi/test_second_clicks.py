"""Second clicks in awkward moments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from shopworld import Worlds, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard import Charge, current_operation, json_field

pytestmark = pytest.mark.asyncio


async def test_a_second_click_during_long_background_work_gets_the_answer_that_went_out(world: Worlds) -> None:
    """The mail is still being written; the shopper has been told long ago."""
    go_on, told = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        payment = await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
        return JSONResponse({"paid": payment.payment_id}, status_code=201, background=BackgroundTask(go_on.wait))

    shop = await world(handler, rule(settle_seconds=0.0))
    save = shop.store.save

    async def noticed(operation: Any, **kwargs: Any) -> Any:
        saved = await save(operation, **kwargs)
        if operation.answer is not None:
            told.set()
        return saved

    shop.store.save = noticed  # type: ignore[method-assign]
    first = asyncio.create_task(shop.pay())
    await told.wait()
    second = await shop.pay()
    go_on.set()
    assert (await first).json() == second.json() == {"paid": "pay_1"}
    assert len(shop.gateway.standing) == 1


async def test_steps_that_were_made_for_another_basket_do_not_stand_in_the_way_of_this_one(world: Worlds) -> None:
    """The first basket failed after a step; under the same cart another one is bought."""
    reserved: list[int] = []

    async def reserve(amount: int) -> int:
        reserved.append(amount)
        return amount

    async def handler(request: Request) -> Response:
        body, op = await request.json(), current_operation()
        await op.step("reserve", reserve, body["amount"])
        if body["amount"] == 1000:
            raise RuntimeError("out of stock")
        await op.charge(Charge(body["amount"], "EUR", source="tok_ok"))
        return JSONResponse({"ok": True}, status_code=201)

    shop = await world(handler, rule(key=json_field("cart")))
    first = await shop.pay(amount=1000)
    again = await shop.pay(amount=1000)
    assert (first.status_code, again.status_code) == (503, 503)
    assert reserved == [1000]
    other = await shop.pay(amount=700)
    assert other.status_code == 201
    assert reserved == [1000, 700]
