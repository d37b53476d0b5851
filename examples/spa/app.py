"""A single-page shop behind the guard: a JSON API, and one static page whose script understands the answers.

Run it, with a gateway that can be broken to order:

    python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
    uvicorn examples.spa.app:app

`checkout.js` is the part to copy: one key for each basket, `money` read from every answer, `status_url` followed.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from cxguard import Charge, Gateway, Guard, OperationHandle, Rule, Shop, current_operation, json_field, signed_session
from cxguard.asgi import GuardMiddleware
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway

HERE = Path(__file__).parent
SESSION_SECRET = os.environ.get("SHOP_SESSION_SECRET", "an example only: a shop's own comes from its environment")
BASKET = {"amount_minor": 4999, "currency": "EUR", "text": "A pilea, and its pot"}
TERMS = "2026-11"  # the version of the sentence under the button, kept with each order that waits


async def basket(request: Request) -> JSONResponse:
    """The visitor's basket; the first call makes both."""
    session = request.session
    session.setdefault("visitor_id", secrets.token_urlsafe(16))
    session.setdefault("basket_id", "b_" + secrets.token_urlsafe(12))
    return JSONResponse({"basket_id": session["basket_id"], **BASKET})


async def pay(request: Request) -> JSONResponse:
    """Charge once, then write the order once, however often this is asked for."""
    try:
        return JSONResponse(await place(current_operation(), await request.json()), status_code=201)
    except PaymentDeclined:
        return JSONResponse({"money": "not_charged", "title": "Your bank did not approve it", "safe_to_retry": True}, status_code=402)


async def place(op: OperationHandle, order: dict[str, Any]) -> dict[str, Any]:
    await op.charge(Charge(BASKET["amount_minor"], BASKET["currency"], source=order["source"], order_id=order["basket_id"]))
    number = await op.step("write order", write_order, order["basket_id"], repeatable=True)
    return {"money": "charged", "title": "Thank you, it is paid", "order": number}


def write_order(basket_id: str) -> str:
    """The shop's own database would be here."""
    return f"FC-{basket_id[-6:]}"


async def place_later(op: OperationHandle) -> dict[str, Any]:
    """For `later=`: place an order that was kept through an outage, without its shopper."""
    assert op.request is not None
    return await place(op, op.request.json())


def make_app(gateway: Gateway, *, store: str) -> Starlette:
    guard = Guard(
        store,
        rules=[
            Rule(
                "POST /api/pay",
                owner=signed_session("visitor_id", secret=SESSION_SECRET),
                purchase=(json_field("basket_id"),),
                amount_minor=json_field("amount_minor"),
                currency=json_field("currency"),
                client_reads_202=True,  # checkout.js knows that a 202 is not "paid"
                later=place_later,
                terms=TERMS,
            )
        ],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example"),
        gateways=[gateway],
    )
    return Starlette(
        routes=[
            Route("/", lambda request: FileResponse(HERE / "index.html")),
            Route("/checkout.js", lambda request: FileResponse(HERE / "checkout.js", media_type="text/javascript")),
            Route("/api/basket", basket),
            Route("/api/pay", pay, methods=["POST"]),
        ],
        middleware=[Middleware(GuardMiddleware, guard=guard), Middleware(SessionMiddleware, secret_key=SESSION_SECRET)],
    )


app = make_app(
    HttpGateway("http:example:test", os.environ.get("SHOP_GATEWAY", "http://127.0.0.1:8801")),
    store=os.environ.get("SHOP_STORE", "sqlite:///spa.db"),
)
