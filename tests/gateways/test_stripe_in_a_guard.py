"""Stripe under a guard: code without a loop, and a refund that takes days and is told by a webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from shopworld import KEYS, SECRET, SHOP
from stripe_script import scripted

from cxguard.core.outcomes import Refunded
from cxguard.engine.library import Purpose
from cxguard.errors import PaymentDeferred
from cxguard.gateways.base import Charge
from cxguard.gateways.stripe import StripeGateway
from cxguard.guard import Guard
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock

pytestmark = pytest.mark.server

API_KEY = "sk_test_" + "x" * 24
WEBHOOK_SECRET = "whsec_made_for_this_test"
BUY = Charge(4999, "EUR", source="pm_card_visa")
NAMED: dict[str, Any] = {"purpose": "order", "key": "o1", "owner": "ann"}


def guard_with(gateway: StripeGateway) -> Guard:
    clock, purposes = ManualClock(), [Purpose("order", wait_seconds=10.0)]
    store = MemoryStore(clock=clock)
    return Guard(store, shop=SHOP, gateways=[gateway], secret=SECRET, keys=KEYS, duties=False, clock=clock, purposes=purposes)


def signed(event: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    body, moment = json.dumps(event).encode(), int(time.time())
    signature = hmac.new(WEBHOOK_SECRET.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={moment},v1={signature}"}


def test_code_without_a_loop_pays_takes_and_gives_back(gateway_process: Any) -> None:
    """The same adapter behind `guard.sync`: once, whatever is repeated."""
    gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=gateway_process.url)
    with guard_with(gateway) as guard:
        for _ in range(2):
            with guard.sync.operation(**NAMED) as op:
                if not op.finished:
                    charged = op.charge(BUY)
                    op.keep({"paid": charged.payment_id})
                reference, answer = op.reference, op.answer
        with guard.sync.resume(reference=reference) as op:
            assert op.refund(1000).amount_minor == 1000
    (payment,) = [each for each in gateway_process.ledger()["payments"] if each["id"] == answer["paid"]]
    assert (payment["captured_minor"], payment["refunded_minor"]) == (4999, 1000)


@pytest.mark.asyncio
async def test_a_refund_that_takes_days_is_settled_by_its_webhook() -> None:
    """Pending is neither done nor refused; the event about the refund's own key says how it ended, also before others."""
    intent = {"id": "pi_1", "object": "payment_intent", "amount": 4999, "currency": "eur", "status": "succeeded", "metadata": {}}
    refund = {"id": "re_1", "object": "refund", "amount": 4999, "currency": "eur", "status": "pending"}
    answers: Any = {
        "POST /v1/payment_intents": [(200, intent)],
        "GET /v1/payment_intents/pi_1": [(200, intent)],
        "POST /v1/refunds": [(200, refund)],
        "GET /v1/refunds/re_1": [(200, refund)],
    }
    async with scripted(answers) as stripe:
        gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=stripe.url, webhook_secret=WEBHOOK_SECRET)
        guard = guard_with(gateway)
        async with guard:
            async with guard.operation(**NAMED) as op:
                await op.charge(BUY)
                op.keep({})
                reference = op.reference
            async with guard.resume(reference=reference) as op:
                with pytest.raises(PaymentDeferred, match="refund_unknown"):
                    await op.refund()
            (made,) = stripe.of("POST /v1/refunds")
            done = {**refund, "status": "succeeded", "metadata": {"cxguard_key": made.key}}
            for number, kind in enumerate(("refund.updated", "charge.refund.updated", "refund.updated")):
                fact = gateway.read_webhook(*signed({"id": f"evt_{number}", "type": kind, "data": {"object": done}}))
                assert fact is not None
                await guard.note(fact)
            async with guard.resume(reference=reference) as op:
                assert await op.refund() == Refunded(4999, "EUR", "re_1")
        await gateway.aclose()
    assert len(stripe.of("POST /v1/refunds")) == 1
