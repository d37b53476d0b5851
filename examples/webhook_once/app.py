"""A webhook that takes effect once, whoever sends it and how often: `guard.note` for payments, `guard.run` for all else.

    uvicorn examples.webhook_once.app:app

A gateway repeats an event until it gets a 2xx, sends some twice, and sends them in any order.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charged, Declined, Guard, OperationHandle, Outcome, Shop
from cxguard.asgi import GuardMiddleware
from cxguard.errors import CxguardError

WEBHOOK_SECRET = os.environ.get("SHOP_WEBHOOK_SECRET", "an example only: a shop's own comes from its gateway").encode()


class Webhooks:
    """The endpoint, and what the shop does about an event."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.shipped: list[str] = []

    async def receive(self, request: Request) -> JSONResponse:
        body = await request.body()
        if not signed_by_gateway(body, request.headers.get("x-signature", "")):
            return JSONResponse({"error": "bad signature"}, status_code=401)
        event = json.loads(body)
        try:
            return JSONResponse(await self.handle(event))
        except CxguardError as error:  # in flight, held, no store: not a 2xx, so the gateway sends it again
            return JSONResponse({"error": str(error)}, status_code=error.status)

    async def handle(self, event: dict[str, Any]) -> dict[str, Any]:
        outcome = outcome_of(event)
        if outcome is not None:
            noted = await self.guard.note(outcome, event_id=event["id"], gateway_key=event["key"])
            return {"reference": noted.reference}
        kept: dict[str, Any] = await self.guard.run(self.ship, event, purpose="webhook", key=event["id"], owner="gateway")
        return kept

    async def ship(self, op: OperationHandle, event: dict[str, Any]) -> dict[str, Any]:
        """Runs once for each event id; a repetition gets the kept result."""
        number = await op.step("book courier", self.book_courier, event["order"])
        return {"courier": number}

    def book_courier(self, order: str) -> str:
        self.shipped.append(order)
        return f"C-{len(self.shipped)}"


def signed_by_gateway(body: bytes, signature: str) -> bool:
    """Before anything else: who cannot sign could call any order paid."""
    return hmac.compare_digest(hmac.digest(WEBHOOK_SECRET, body, hashlib.sha256).hex().encode(), signature.encode())


def outcome_of(event: dict[str, Any]) -> Outcome | None:
    """A payment event in the guard's words; None for other events."""
    match event["type"]:
        case "payment.succeeded":
            return Charged(event["amount_minor"], event["currency"], payment_id=event["payment_id"])
        case "payment.declined":
            return Declined(code=event.get("code", ""))
    return None


def make_app(*, store: str) -> Starlette:
    guard = Guard(store, shop=Shop("Fern & Co", phone="+44 20 7946 0000"))
    app = Starlette(routes=[Route("/webhooks/gateway", Webhooks(guard).receive, methods=["POST"])])
    app.add_middleware(GuardMiddleware, guard=guard)  # starts and stops the guard with the app
    return app


app = make_app(store=os.environ.get("SHOP_STORE", "sqlite:///webhooks.db"))
