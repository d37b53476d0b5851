"""A gateway of your own in thirty lines: five calls, each with an outcome for an answer.

    python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
    python examples/own_gateway/gateway.py http://127.0.0.1:8801 pm_1 4999

The rule behind every line: *charged*, *declined* and *not charged* need the gateway's own clear word; all else is `Unknown`.
`cxguard.testing.gateway_contract` says whether an adapter keeps that.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import httpx

from cxguard import Charge, Charged, Declined, Guard, NotCharged, Outcome, Refunded, Shop, Unknown


class FernPay:
    """The gateway that `python -m cxguard.demo.gateway` runs."""

    keyed = True  # the same key charges once ...
    key_lifetime_seconds = 86_400.0  # ... for a day
    settle_seconds = 60.0  # what was taken in is found after so long

    def __init__(self, name: str, base_url: str) -> None:
        self.name = name  # adapter, account and mode: "fernpay:shop:live"
        self.base_url = base_url

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        body = {"amount_minor": charge.amount_minor, "currency": charge.currency, "source": charge.source, "capture": charge.capture}
        return await self.ask("POST", "/payments", key, timeout_seconds, {**body, "metadata": dict(charge.metadata)})

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        return asked(await self.ask("GET", f"/payments?key={key}", key, timeout_seconds))

    async def cancel(self, key: str, *, timeout_seconds: float) -> Outcome:
        return asked(await self.ask("POST", "/payments/cancel", key, timeout_seconds, {"key": key}))

    async def capture(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        body = {"amount_minor": amount_minor, "currency": currency}
        return await self.ask("POST", f"/payments/{payment_id}/captures", key, timeout_seconds, body)

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Outcome:
        body = {"amount_minor": amount_minor, "currency": currency}
        return await self.ask("POST", f"/payments/{payment_id}/refunds", key, timeout_seconds, body)

    async def ask(self, method: str, path: str, key: str, seconds: float, body: dict[str, Any] | None = None) -> Outcome:
        try:
            async with httpx.AsyncClient(base_url=self.base_url, timeout=seconds, trust_env=False) as client:
                answer = await client.request(method, path, json=body, headers={"Idempotency-Key": key})
            return read(answer.status_code, answer.json())
        except (httpx.ConnectError, httpx.ConnectTimeout):  # before a byte was written
            return NotCharged("not sent", retryable=True, reroutable=True)
        except (httpx.HTTPError, ValueError):
            return Unknown("no readable answer")


def read(status: int, body: Any) -> Outcome:
    """The table: from the gateway's words to outcomes."""
    match body:
        case {"status": "succeeded" | "authorised" as word, "amount_minor": int(minor), "currency": str(currency), "id": str(id)}:
            return Charged(minor, currency, payment_id=id, captured=word == "succeeded")
        case {"status": "declined", "decline_code": str(code)}:
            return Declined(code=code)
        case {"status": "refunded", "currency": str(currency)}:
            return Refunded(body.get("refunded_minor", body["amount_minor"]), currency, refund_id=body["id"])
        case {"status": "cancelled"} | {"error": {"code": "key_cancelled"}}:
            return NotCharged("cancelled")
        case {"error": {"code": "not_found"}}:
            return Unknown("not_found")  # it may still be on its way
        case {"error": {"code": str(code)}} if status in (400, 422) and code != "key_mismatch":
            return NotCharged(f"refused: {code}")
    return Unknown(f"HTTP {status}")


def asked(outcome: Outcome) -> Outcome:
    """A question that could not be asked says nothing about the money."""
    return Unknown("could not ask") if isinstance(outcome, NotCharged) and outcome.why != "cancelled" else outcome


async def main(url: str, order: str, amount_minor: int) -> None:
    gateway = FernPay("fernpay:shop:test", url)
    store = os.environ.get("SHOP_STORE", "sqlite:///orders.db")
    async with Guard(store, shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=[gateway]) as guard:

        async def pay(op: Any) -> str:
            payment: Charged = await op.charge(Charge(amount_minor, "EUR", source="tok_ok", order_id=order))
            return payment.payment_id

        print(await guard.run(pay, purpose="pay order", key=order, owner="me"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
