"""A shop on several machines: the app and the worker take everything that differs between machines from the environment.

    docker compose ... up       app, worker and PostgreSQL, from the project's folder: the head of `compose.yaml` has the whole line
    systemctl enable --now shop-app shop-worker         app and worker on a machine of your own, with the two unit files

The first one wants `shop.env` there, the second one `/etc/shop/shop.env`: a copy of `shop.env.example`, filled in.

SHOP_STORE is the store's address, SHOP_GATEWAY the payment gateway's; CXGUARD_SECRET and CXGUARD_KEYS are the same for all
processes. `shop.env.example` has a line for each. `docs/deployment.md` says what to choose and what to expect.
"""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Guard, OperationHandle, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway


async def place(op: OperationHandle, order: dict[str, Any]) -> dict[str, str]:
    payment = await op.charge(Charge(order["amount"], order["currency"], source=order["token"], order_id=order["cart_id"]))
    return {"order": op.reference, "payment": payment.payment_id}


async def pay(request: Request) -> JSONResponse:
    try:
        return JSONResponse(await place(current_operation(), await request.json()), 201)
    except PaymentDeclined:
        return JSONResponse({"message": "Your bank did not approve it."}, 402)


async def place_later(op: OperationHandle) -> dict[str, str]:
    assert op.request is not None
    return await place(op, op.request.json())


async def alive(request: Request) -> JSONResponse:
    """For the balancer: this process answers. It says nothing about the store, or an outage there would empty the shop."""
    return JSONResponse({"alive": True})


def make_app() -> Starlette:
    """What the server and the worker run: `uvicorn --factory app:make_app`, `cxguard worker --factory app:make_app`."""
    rule = Rule(
        "POST /checkout/pay",
        owner=header("x-customer-id"),  # set by the proxy that has checked the session, and by nobody else
        purchase=(json_field("cart_id"),),
        amount_minor=json_field("amount"),
        currency=json_field("currency"),
        later=place_later,
        terms="2026-11",
    )
    guard = Guard(
        os.environ["SHOP_STORE"],
        rules=[rule],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
        gateways=[HttpGateway("http:shop:live", os.environ["SHOP_GATEWAY"])],
    )
    app = Starlette(routes=[Route("/checkout/pay", pay, methods=["POST"]), Route("/alive", alive)])
    app.add_middleware(GuardMiddleware, guard=guard)
    return app
