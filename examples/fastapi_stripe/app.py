"""FastAPI and Stripe, where the shop's own handler charges: `charged_by="shop"`, a gateway key, and a `resolve` hook.

    pip install fastapi stripe
    STRIPE_API_KEY=sk_test_... uvicorn examples.fastapi_stripe.app:app

The guard does not see the charge. It hears of it from the handler's answer, and, when that says nothing (an exception, a
time-out, a killed process), from `ask_stripe`.
"""

from __future__ import annotations

import asyncio
import os
from itertools import islice
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

from cxguard import (
    Charged,
    Declined,
    Guard,
    NotCharged,
    OperationHandle,
    Outcome,
    Rule,
    Shop,
    Unknown,
    current_operation,
    json_field,
    signed_session,
)
from cxguard.asgi import GuardMiddleware

SESSION_SECRET = os.environ.get("SHOP_SESSION_SECRET", "an example only: a shop's own comes from its environment")
LOOKED_THROUGH_MAX = 300  # payments: what a busy shop takes in some minutes


class Order(BaseModel):
    cart_id: str
    amount: int
    currency: str
    payment_method: str


def pay(order: Order) -> JSONResponse:
    """The shop's own handler, with little more than before: the key, where to find the payment by it, and what is no sale."""
    import stripe  # the official SDK; it blocks, so this is a plain function, and FastAPI runs it in a thread

    key = current_operation().gateway_key("charge")
    try:
        intent = stripe.PaymentIntent.create(
            amount=order.amount,
            currency=order.currency.lower(),
            payment_method=order.payment_method,
            confirm=True,
            error_on_requires_action=True,
            metadata={"cxguard_key": key},
            idempotency_key=key,
        )
    except stripe.CardError:
        return JSONResponse({"message": "Your bank did not approve the payment."}, status_code=402)
    if intent.status not in ("succeeded", "requires_capture"):  # a debit that takes days, say: no sale yet, and no decline
        return JSONResponse({"message": "Not known yet."}, status_code=502)  # the guard asks `ask_stripe`, and tells the shopper
    return JSONResponse({"order": order.cart_id, "payment": intent.id}, status_code=201)


async def ask_stripe(op: OperationHandle) -> Outcome:
    """For `resolve=`: what became of the payment. Nothing found is no proof: the request may still be on its way."""
    found = await asyncio.to_thread(find_intent, op.gateway_key("charge"))
    return outcome_of(found) if found is not None else Unknown("not_found")


def find_intent(key: str) -> Any:
    """The payment that carries our key, among the newest. (Stripe's search would be shorter, and lags behind by a minute.)"""
    import stripe

    newest = islice(stripe.PaymentIntent.list(limit=100).auto_paging_iter(), LOOKED_THROUGH_MAX)
    return next((intent for intent in newest if intent.metadata.get("cxguard_key") == key), None)


def outcome_of(intent: Any) -> Outcome:
    """A PaymentIntent's status, in the guard's words. What is not listed stays unknown."""
    match intent.status:
        case "succeeded" | "requires_capture":
            captured = intent.status == "succeeded"
            return Charged(intent.amount, intent.currency.upper(), payment_id=intent.id, captured=captured)
        case "requires_payment_method" if intent.last_payment_error:
            return Declined(code=str(intent.last_payment_error.code))
        case "canceled":
            return NotCharged("the payment was cancelled at Stripe")
    return Unknown(intent.status)


def make_app(*, store: str) -> FastAPI:
    guard = Guard(
        store,
        rules=[
            Rule(
                "POST /checkout/pay",
                owner=signed_session("visitor_id", secret=SESSION_SECRET),
                purchase=(json_field("cart_id"),),
                amount_minor=json_field("amount"),
                currency=json_field("currency"),
                charged_by="shop",
                resolve=ask_stripe,
                rerun_safe=True,  # the handler passes our key on, so Stripe charges once however often it runs
            )
        ],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example"),
    )
    app = FastAPI()
    app.post("/checkout/pay")(pay)
    app.add_middleware(SessionMiddleware, secret_key=SESSION_SECRET)
    app.add_middleware(GuardMiddleware, guard=guard)
    return app


app = make_app(store=os.environ.get("SHOP_STORE", "sqlite:///fastapi.db"))
