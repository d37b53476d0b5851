"""A shop with a test of its own, in which everything goes wrong at the moment that counts: `test_checkout.py` beside it.

    pip install 'cxguard[http,server]' pytest pytest-asyncio
    pytest examples/tested_shop
    SHOP_GUARD=off pytest examples/tested_shop       # without the guard the same test fails, and says why

The gateway is asked over HTTP, with a key: twice under one key, it charges once. The shop's own code charges, so the guard
hears from `ask_gateway` what became of a payment whose answer was lost.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charged, Guard, OperationHandle, Outcome, Rule, Shop, Unknown, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware

GATEWAY_SECONDS_MAX = 1.0


def make_app(gateway: httpx.AsyncClient, *, store: str, guarded: bool = True) -> Any:
    """The shop, at a gateway that *gateway* speaks to."""

    async def pay(request: Request) -> JSONResponse:
        order = await request.json()
        key = current_operation().gateway_key("charge") if guarded else None
        paid = await gateway.post("/charges", json={"amount": order["amount"], "currency": "EUR", "key": key})
        paid.raise_for_status()
        return JSONResponse({"order": order["cart"], "payment": paid.json()["id"]}, 201)

    async def ask_gateway(op: OperationHandle) -> Outcome:
        found = await gateway.get("/charges", params={"key": op.gateway_key("charge")})
        if found.status_code != 200:
            return Unknown("not_found")  # no proof: the request may still be on its way
        return Charged(found.json()["amount"], found.json()["currency"], payment_id=found.json()["id"])

    shop = Starlette(routes=[Route("/pay", pay, methods=["POST"])])
    if not guarded:
        return shop
    rule = Rule(
        "POST /pay",
        owner=header("x-shopper"),  # an example's owner: a shop's own comes from its session
        purchase=(json_field("cart"),),
        amount_minor=json_field("amount"),
        currency="EUR",
        charged_by="shop",
        resolve=ask_gateway,
        rerun_safe=True,  # the handler passes our key on, so the gateway charges once however often it runs
        lease_seconds=float(os.environ.get("SHOP_LEASE_SECONDS", "30")),
    )
    guard = Guard(store, rules=[rule], shop=Shop("Fern & Co", phone="+44 20 7946 0000"))
    shop.add_middleware(GuardMiddleware, guard=guard)
    return shop


def from_environment() -> Any:
    """For `uvicorn --factory app:from_environment`."""
    gateway = httpx.AsyncClient(base_url=os.environ["SHOP_GATEWAY"], timeout=GATEWAY_SECONDS_MAX)
    return make_app(gateway, store=os.environ["SHOP_STORE"], guarded=os.environ.get("SHOP_GUARD") != "off")
