"""A checkout on Stripe: the guard charges through the official SDK, and webhooks bring proof.

    pip install 'cxguard[stripe,server]'
    STRIPE_API_KEY=sk_test_... STRIPE_WEBHOOK_SECRET=whsec_... uvicorn examples.stripe_checkout.app:app

Without an account at Stripe, against the gateway that can be broken to order:

    python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
    STRIPE_API_KEY=sk_test_demo STRIPE_BASE_URL=http://127.0.0.1:8801 uvicorn examples.stripe_checkout.app:app

The page sends a payment method (Stripe Elements makes it), never a card. An order that waits through an outage is charged
later without the shopper, so the payment method must be saved for that (`setup_future_usage`), and the shopper must have
agreed to it: `terms` says to which text.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Gateway, Guard, OperationHandle, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.errors import WebhookRefused
from cxguard.gateways.stripe import StripeGateway

TERMS = "2026-11"  # the version of the sentence under the button


def charge_of(order: dict[str, Any]) -> Charge:
    """What this order costs, from the shop's own books and never from the request."""
    return Charge(order["amount_minor"], order["currency"], source=order["payment_method"], order_id=order["cart_id"])


async def pay(request: Request) -> JSONResponse:
    order = await request.json()
    payment = await current_operation().charge(charge_of(order))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


async def pay_later(op: OperationHandle) -> dict[str, str]:
    """After an outage: the same charge, without the shopper."""
    assert op.request is not None
    payment = await op.charge(replace(charge_of(op.request.json()), off_session=True))
    return {"paid": payment.payment_id}


class StripeWebhook:
    """Stripe repeats an event until it gets a 2xx, sends some twice, and sends them in any order: none of it matters."""

    def __init__(self, guard: Guard, stripe: StripeGateway) -> None:
        self._guard = guard
        self._stripe = stripe

    async def receive(self, request: Request) -> JSONResponse:
        try:
            fact = self._stripe.read_webhook(await request.body(), request.headers)
        except WebhookRefused as refused:
            return JSONResponse({"error": str(refused)}, status_code=refused.status)
        if fact is not None:
            await self._guard.note(fact)
        return JSONResponse({"received": True})


def make_app(stripe: StripeGateway, *, store: str, **options: Any) -> Starlette:
    gateways: list[Gateway] = [stripe]
    rule = Rule(
        "POST /checkout/pay",
        owner=header("x-customer"),  # set by the shop's own login, in front of this app
        key=json_field("cart_id"),
        amount_minor=json_field("amount_minor"),
        currency=json_field("currency"),
        later=pay_later,
        terms=TERMS,
    )
    guard = Guard(store, shop=Shop("Fern & Co", phone="+44 20 7946 0000"), rules=[rule], gateways=gateways, **options)
    webhook = StripeWebhook(guard, stripe)
    routes = [
        Route("/checkout/pay", pay, methods=["POST"]),
        Route("/webhooks/stripe", webhook.receive, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(GuardMiddleware, guard=guard)
    return app


def gateway_from_environment() -> StripeGateway:
    """The mode is the key's own: a test key never answers for live money."""
    api_key = os.environ.get("STRIPE_API_KEY", "sk_test_set_your_own")
    mode = "live" if "_live_" in api_key[:8] else "test"
    secret, base_url = os.environ.get("STRIPE_WEBHOOK_SECRET", ""), os.environ.get("STRIPE_BASE_URL") or None
    return StripeGateway(f"stripe:fern:{mode}", api_key=api_key, webhook_secret=secret, base_url=base_url)


app = make_app(gateway_from_environment(), store=os.environ.get("SHOP_STORE", "sqlite:///stripe_checkout.db"))
