"""A little shop at the demo's gateway, behind nothing or behind the guard: `uvicorn conform_shop:app`.

From the environment: CONFORM_GATEWAY (a URL), CONFORM_ORDERS (the shop's own books), CONFORM_STORE (a URL, of the guard),
CONFORM_AROUND: `none`; `shop`, the guard around a handler that charges by itself; `charge`, the guard charges.

The handler is as careless as many are: a gateway that does not answer in time is told as a declined card.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any

import httpx
from fleet_shop import write_order
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Charged, Declined, Guard, Rule, Shop, Unknown, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.engine.engine import Timeouts
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway

GATEWAY_SECONDS_MAX = 2.0
Charging = Callable[[dict[str, Any]], Awaitable[str]]


class NotPaid(Exception):
    """What the shop makes of anything but a charge."""


def lease_seconds() -> float:
    """Short, so that nobody waits long for an order of a process that was killed."""
    return float(os.environ.get("CONFORM_LEASE_SECONDS", "2"))


def gateway_url() -> str:
    return os.environ.get("CONFORM_GATEWAY", "http://127.0.0.1:9")


@cache
def gateway() -> httpx.AsyncClient:
    """One for the process: to make one takes longer than to ask. Its connections are not kept, so that none outlives an outage."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=gateway_url(), timeout=GATEWAY_SECONDS_MAX, limits=limits)


async def charge_without_key(order: dict[str, Any]) -> str:
    """As a shop does that has a middleware for its keys: the gateway gets none."""
    return await asked_to_charge(order, key=None)


async def charge_with_guards_key(order: dict[str, Any]) -> str:
    """The line that the guard asks for."""
    return await asked_to_charge(order, key=current_operation().gateway_key("charge"))


async def asked_to_charge(order: dict[str, Any], *, key: str | None) -> str:
    asked = {"amount_minor": order["amount"], "currency": "EUR", "source": order["source"], "reference": order["order"]}
    with suppress(httpx.HTTPError, KeyError, ValueError):
        answer = await gateway().post("/payments", json=asked, headers={"Idempotency-Key": key} if key else {})
        if answer.is_success and answer.json()["status"] == "succeeded":
            return str(answer.json()["id"])
    raise NotPaid


async def charge_by_guard(order: dict[str, Any]) -> str:
    charge = Charge(order["amount"], "EUR", source=order["source"], order_id=order["order"])
    return (await current_operation().charge(charge)).payment_id


def make_shop(charge: Charging = charge_without_key) -> Starlette:
    """The shop, which takes the money by *charge*."""

    async def pay(request: Request) -> JSONResponse:
        order = await request.json()
        try:
            number = write_order(order["order"], await charge(order))
        except (NotPaid, PaymentDeclined):
            return JSONResponse({"status": "declined", "message": "Your card was declined. No payment has been taken."}, 402)
        return JSONResponse({"status": "paid", "order": number}, 201)

    async def ping(request: Request) -> JSONResponse:
        return JSONResponse({"pid": os.getpid()})

    return Starlette(routes=[Route("/pay", pay, methods=["POST"]), Route("/ping", ping)])


async def ask_gateway(op: Any) -> Any:
    """For `resolve=`: what became of the payment under the guard's key."""
    with suppress(httpx.HTTPError):
        found = await gateway().get("/payments", params={"key": op.gateway_key("charge")})
        payment = found.json() if found.is_success else {}
        if payment.get("status") == "succeeded":
            return Charged(payment["amount_minor"], payment["currency"], payment_id=payment["id"])
        if payment.get("status") == "declined":
            return Declined(code=payment.get("decline_code") or "")
    return Unknown("not_found")


def guarded(*, charges: bool) -> Starlette:
    """The same shop behind the guard; with *charges* the guard charges, else the shop's own code goes on doing so."""
    own = {} if charges else {"charged_by": "shop", "resolve": ask_gateway, "rerun_safe": True}
    rule = Rule(
        "POST /pay",
        owner=header("x-shopper"),
        purchase=(json_field("order"),),
        amount_minor=json_field("amount"),
        currency="EUR",
        lease_seconds=lease_seconds(),
        later=place_later if charges else place_again,
        terms="2026-11",
        **own,
    )
    guard = Guard(
        os.environ.get("CONFORM_STORE", "memory://"),
        rules=[rule],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
        gateways=[HttpGateway("http:conform:test", gateway_url())] if charges else [],
        timeouts=Timeouts(attempt_seconds=GATEWAY_SECONDS_MAX, find_seconds=1.0),
    )
    shop = make_shop(charge_by_guard if charges else charge_with_guards_key)
    shop.add_middleware(GuardMiddleware, guard=guard)
    return shop


async def place_later(op: Any) -> dict[str, str]:
    order = op.request.json()
    return {"status": "paid", "order": write_order(order["order"], await charge_by_guard(order))}


async def place_again(op: Any) -> dict[str, str]:
    """Where the shop charges: under the guard's key, so the gateway tells the payment that was made, or makes it now."""
    order = op.request.json()
    return {"status": "paid", "order": write_order(order["order"], await asked_to_charge(order, key=op.gateway_key("charge")))}


def app_around(around: str) -> Starlette:
    """The shop behind *around*."""
    if around == "none":
        return make_shop()
    return guarded(charges=around == "charge")


os.environ.setdefault("FLEET_ORDERS", os.environ.get("CONFORM_ORDERS", os.devnull))
app = app_around(os.environ.get("CONFORM_AROUND", "none"))
