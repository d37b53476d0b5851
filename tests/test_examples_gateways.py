"""The examples about gateways are run: Stripe by its official SDK, and one of a shop's own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from example_ground import client_of, load
from servers import ROOT, Process, Serve, Spawn

from cxguard.core.breaker import BreakerPolicy
from cxguard.core.outcomes import Charged
from cxguard.engine.engine import Timeouts
from cxguard.gateways.base import Charge, Gateway
from cxguard.gateways.stripe import StripeGateway

pytestmark = pytest.mark.server

API_KEY = "sk_test_" + "x" * 24
ASYNC = {"prefer": "respond-async"}
BREAKERS = BreakerPolicy(consecutive_failures=1_000)


class Demo:
    """The gateway process of one test."""

    def __init__(self, process: Process) -> None:
        facts = json.loads(process.ready_line)
        self.url, self.control_url = facts["url"], facts["control_url"]

    def ask(self, method: str, path: str, **members: Any) -> Any:
        return httpx.request(method, self.control_url + path, json=members or None, trust_env=False, timeout=30).json()

    def standing(self) -> list[Any]:
        return [each for each in self.ask("GET", "/ledger")["payments"] if each["status"] in ("succeeded", "authorised")]


@pytest.fixture
def demo(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Demo]:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "gateway.db")]
    yield Demo(spawn(command, ready="control_url"))


def order(cart: str = "c1", card: str = "pm_card_visa") -> dict[str, Any]:
    return {"cart_id": cart, "amount_minor": 4999, "currency": "EUR", "payment_method": card}


def stripe_shop(demo: Demo, **options: Any) -> Any:
    stripe = StripeGateway("stripe:fern:test", api_key=API_KEY, base_url=demo.url, webhook_secret="whsec_test")
    return load("stripe_checkout/app.py").make_app(
        stripe, store="sqlite:///checkout.db", timeouts=Timeouts(attempt_seconds=1.0), breakers=BREAKERS, **options
    )


@pytest.mark.asyncio
async def test_stripe_checkout_charges_a_double_click_once(demo: Demo) -> None:
    """The same cart twice, at once: one payment at Stripe."""
    async with client_of(stripe_shop(demo)) as client:
        send = [client.post("/checkout/pay", json=order(), headers={"x-customer": "ann"}) for _ in range(2)]
        answers = await asyncio.gather(*send)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert len(demo.standing()) == 1


def test_stripe_checkout_learns_from_a_webhook_what_its_call_did_not_hear(demo: Demo, serve: Serve) -> None:
    """Charged, no answer, and look-ups that hang: the webhook brings the truth, and the retry hears "paid"."""
    env = {"STRIPE_API_KEY": API_KEY, "STRIPE_BASE_URL": demo.url, "STRIPE_WEBHOOK_SECRET": "whsec_test"}
    shop = serve("examples.stripe_checkout.app:app", env={**env, "SHOP_STORE": f"sqlite:///{Path.cwd() / 'checkout.db'}"})
    hook = {"webhooks": "twice", "webhook_url": f"{shop.url}/webhooks/stripe", "webhook_secret": "whsec_test"}
    demo.ask("PUT", "/control", mode="time_out_after", lookups_too=True, **hook)
    with httpx.Client(base_url=shop.url, headers={"x-customer": "ann", **ASYNC}, trust_env=False, timeout=30) as client:
        first = client.post("/checkout/pay", json=order()).json()
        assert first["money"] in ("charged", "unknown"), "nobody is told that it was declined, or not charged"
        for _ in range(200):
            again = client.post("/checkout/pay", json=order()).json()
            if again.get("money") == "charged":
                break
    assert again["money"] == "charged", "although Stripe cannot be asked"
    assert len(demo.standing()) == 1


@pytest.mark.asyncio
async def test_stripe_checkout_refuses_what_stripe_has_not_signed(demo: Demo) -> None:
    """400, and nobody is told "paid"."""
    async with client_of(stripe_shop(demo)) as client:
        answer = await client.post("/webhooks/stripe", content=b"{}", headers={"stripe-signature": "t=1,v1=00"})
    assert answer.status_code == 400


@pytest.mark.asyncio
async def test_own_gateway_charges_and_finds(demo: Demo) -> None:
    """The thirty lines do what a gateway must."""
    own = load("own_gateway/gateway.py").FernPay("fernpay:shop:test", demo.url)
    assert isinstance(own, Gateway)
    charged = await own.charge(Charge(4999, "EUR", source="tok_ok"), key="k1", timeout_seconds=5)
    assert isinstance(charged, Charged)
    assert await own.find("k1", timeout_seconds=5) == charged


def test_own_gateway_runs_as_its_first_lines_say(demo: Demo, spawn: Spawn) -> None:
    """Twice the same order on the command line: the same payment."""
    command = [sys.executable, str(ROOT / "examples/own_gateway/gateway.py"), demo.url, "pm_1", "4999"]
    env = {"SHOP_STORE": f"sqlite:///{Path.cwd() / 'orders.db'}"}
    first = spawn(command, ready="pay_", env=env).ready_line
    assert spawn(command, ready="pay_", env=env).ready_line == first
    assert len(demo.standing()) == 1
