"""A shop for the tests of the worker: `workshop:app`, with its own lifespan, and `workshop:guard` for scripts.

From the environment: WORKSHOP_STORE (a folder), WORKSHOP_GATEWAY (a URL).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard import Charge, Guard, Purpose, Rule, Shop, current_operation, header, json_field, replay
from cxguard.asgi import GuardMiddleware
from cxguard.gateways.http import HttpGateway

STORE = f"sqlite:///{os.environ.get('WORKSHOP_STORE', '/nowhere')}/guard.db"
SHOP = Shop("Fern & Co", phone="+44 20 7946 0000")
pool: list[str] = []  # stands for what a lifespan opens: a handler needs it


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return JSONResponse({"payment": payment.payment_id, "pool": pool[0]}, 201)


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok", order_id="script"))
    return {"payment": payment.payment_id}


def make_guard(*rules: Rule) -> Guard:
    gateway = HttpGateway("http:workshop:test", os.environ.get("WORKSHOP_GATEWAY", "http://127.0.0.1:9"))
    return Guard(STORE, rules=rules, shop=SHOP, gateways=[gateway], purposes=[Purpose("place order", later=place)], duties=False)


guard = make_guard()


def make_app() -> Starlette:
    """The shop, whose orders are placed by its own handler once more."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        pool.append("open")
        print("the shop's own lifespan has begun", flush=True)  # noqa: T201
        yield
        print("the shop's own lifespan has ended", flush=True)  # noqa: T201

    own = make_guard(
        Rule(
            "POST /pay",
            owner=header("x-user"),
            amount_minor=json_field("amount"),
            currency=json_field("currency"),
            later=replay,
            terms="1",
        )
    )
    app = Starlette(routes=[Route("/pay", pay, methods=["POST"])], lifespan=lifespan)
    app.add_middleware(GuardMiddleware, guard=own)
    return app


app = make_app()
