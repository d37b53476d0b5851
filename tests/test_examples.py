"""The examples are run: each does what its first lines say, also when somebody clicks twice or a gateway is down."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from example_ground import EXAMPLES, client_of, load
from itsdangerous import TimestampSigner
from servers import Process, Serve, Spawn
from stripe_stand_in import CardError, StripeStandIn

from cxguard.core.outcomes import Charged, Declined, NotCharged, Unknown
from cxguard.gateways.base import Charge
from cxguard.testing.fake_gateway import Does, FakeGateway


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example's default store is a file in the working folder."""
    monkeypatch.chdir(tmp_path)


def test_every_example_has_a_test_here() -> None:
    """A new folder needs a test of its own, and says in its first lines how it is run."""
    mine = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_example*.py"))
    for folder in sorted(path for path in EXAMPLES.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert f"_{folder.name}_" in mine, f"no test is named after {folder.name}"
        (module,) = (path for path in folder.glob("*.py") if not path.name.startswith(("test_", "conftest")))
        assert re.match(r'"""[^\n]+\n.*\n    \w', module.read_text("utf-8"), re.DOTALL)


# --- the single-page shop


async def spa_basket(client: httpx.AsyncClient, source: str = "tok_ok") -> dict[str, Any]:
    basket = (await client.get("/api/basket")).json()
    return {"basket_id": basket["basket_id"], "amount_minor": basket["amount_minor"], "currency": basket["currency"], "source": source}


@pytest.mark.asyncio
async def test_spa_charges_a_double_click_once() -> None:
    """Two clicks send one key: one charge, the same answer."""
    gateway = FakeGateway()
    async with client_of(load("spa/app.py").make_app(gateway, store="memory://")) as client:
        order = await spa_basket(client)
        answers = await asyncio.gather(*(client.post("/api/pay", json=order, headers={"idempotency-key": "k1"}) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert [answer.json()["money"] for answer in answers] == ["charged", "charged"]
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_spa_is_told_that_its_order_is_kept_in_an_outage() -> None:
    """202, not charged, saved, and where to follow it."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    async with client_of(load("spa/app.py").make_app(gateway, store="memory://")) as client:
        kept = await client.post("/api/pay", json=await spa_basket(client), headers={"idempotency-key": "k1"})
        assert (kept.status_code, kept.json()["money"], kept.json()["order_saved"]) == (202, "not_charged", True)
        status = (await client.get(kept.json()["status_url"], headers={"accept": "application/json"})).json()
    assert (status["situation"], status["final"]) == ("kept", False)


@dataclass
class Gateway:
    """The demo's gateway as a process."""

    process: Process
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.facts = json.loads(self.process.ready_line)

    @property
    def url(self) -> str:
        return self.facts["url"]

    def mode(self, mode: str) -> None:
        httpx.put(self.facts["control_url"] + "/control", json={"mode": mode}, trust_env=False).raise_for_status()

    def standing(self) -> list[dict[str, Any]]:
        payments = httpx.get(self.facts["control_url"] + "/ledger", trust_env=False).json()["payments"]
        return [payment for payment in payments if payment["status"] == "succeeded"]


@pytest.fixture
def gateway(spawn: Spawn, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that can be broken to order."""
    command = [sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "gateway.db")]
    yield Gateway(spawn(command, ready='"url"'))


@pytest.mark.server
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_spa_in_a_browser_follows_a_kept_order_to_paid(serve: Serve, chromium: Any, gateway: Gateway, tmp_path: Path) -> None:
    """The gateway is down when the shopper pays, and comes back: the page says "kept", then "paid", and one charge stands."""
    gateway.mode("refuse")
    shop = serve("examples.spa.app:app", env={"SHOP_GATEWAY": gateway.url, "SHOP_STORE": f"sqlite:///{tmp_path}/shop.db"})
    page = await chromium.page()
    await page.goto(shop.url)
    await page.get_by_text("49.99 EUR").wait_for()
    await page.get_by_role("button", name="Pay").dblclick()
    await page.locator("#said[data-money='not_charged']").wait_for()
    assert await page.get_by_role("link", name="Follow your order").is_visible()
    assert await page.get_by_role("button", name="Pay").is_hidden()
    gateway.mode("healthy")
    await page.locator("#said[data-money='charged']").wait_for(timeout=60_000)
    assert len(gateway.standing()) == 1


@pytest.mark.server
@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_spa_in_a_browser_takes_another_card_after_a_decline(serve: Serve, chromium: Any, gateway: Gateway, tmp_path: Path) -> None:
    """A definite no ends the key: the next card goes out under a new one, and is charged."""
    shop = serve("examples.spa.app:app", env={"SHOP_GATEWAY": gateway.url, "SHOP_STORE": f"sqlite:///{tmp_path}/shop.db"})
    page = await chromium.page()
    await page.goto(shop.url)
    await page.get_by_text("49.99 EUR").wait_for()
    await page.get_by_label("Card").select_option("tok_declined")
    await page.get_by_role("button", name="Pay").click()
    await page.locator("#said[data-money='not_charged']").wait_for()
    await page.get_by_label("Card").select_option("tok_ok")
    await page.get_by_role("button", name="Pay").click()
    await page.locator("#said[data-money='charged']").wait_for()
    assert len(gateway.standing()) == 1


# --- FastAPI and Stripe


ORDER = {"cart_id": "c1", "amount": 4999, "currency": "EUR", "payment_method": "pm_card_visa"}


@asynccontextmanager
async def stripe_shop(monkeypatch: pytest.MonkeyPatch, stripe: StripeStandIn) -> Any:
    monkeypatch.setitem(sys.modules, "stripe", stripe)
    module = load("fastapi_stripe/app.py")
    session = TimestampSigner(module.SESSION_SECRET).sign(base64.b64encode(b'{"visitor_id": "ann"}')).decode()
    async with client_of(module.make_app(store="memory://")) as client:
        client.cookies.set("session", session)
        yield client


@pytest.mark.asyncio
async def test_fastapi_stripe_charges_once_and_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second submit gets the first one's answer."""
    stripe = StripeStandIn()
    async with stripe_shop(monkeypatch, stripe) as client:
        first, second = [await client.post("/checkout/pay", json=ORDER, headers={"idempotency-key": "k1"}) for _ in range(2)]
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (201, {"order": "c1", "payment": "pi_1"})
    assert second.headers["idempotency-replayed"] == "true"
    assert len(stripe.intents) == 1


@pytest.mark.asyncio
async def test_fastapi_stripe_a_silent_gateway_is_asked_what_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe charged and the connection broke: the shopper hears "paid", not an error, and the retry charges nothing."""
    stripe = StripeStandIn()
    stripe.then = [ConnectionError("read timed out")]
    async with stripe_shop(monkeypatch, stripe) as client:
        answers = [await client.post("/checkout/pay", json=ORDER, headers={"idempotency-key": "k1"}) for _ in range(2)]
    assert [answer.json()["money"] for answer in answers] == ["charged", "charged"]
    assert len(stripe.intents) == 1


@pytest.mark.asyncio
async def test_fastapi_stripe_a_decline_is_told_in_the_shops_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook agrees that the issuer said no: the handler's own answer stands."""
    stripe = StripeStandIn()
    stripe.status = "requires_payment_method"
    async with stripe_shop(monkeypatch, stripe) as client:
        answer = await client.post("/checkout/pay", json=ORDER, headers={"idempotency-key": "k1"})
    assert (answer.status_code, answer.json()) == (402, {"message": "Your bank did not approve the payment."})


@pytest.mark.asyncio
async def test_fastapi_stripe_a_payment_that_is_under_way_is_no_sale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe raises nothing over a debit that takes days: it is told as unknown."""
    stripe = StripeStandIn()
    stripe.status = "processing"
    async with stripe_shop(monkeypatch, stripe) as client:
        answer = await client.post("/checkout/pay", json=ORDER, headers={"idempotency-key": "k1"})
    assert answer.json()["money"] == "unknown"


@pytest.mark.asyncio
async def test_fastapi_stripe_a_decline_that_the_ledger_contradicts_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler says declined over a payment that succeeded: the shopper hears that it is paid."""
    stripe = StripeStandIn()
    stripe.then = [CardError("raised by mistake")]
    async with stripe_shop(monkeypatch, stripe) as client:
        answer = await client.post("/checkout/pay", json=ORDER, headers={"idempotency-key": "k1"})
    assert answer.json()["money"] == "charged"


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        ("succeeded", None, Charged(4999, "EUR", payment_id="pi_1")),
        ("requires_capture", None, Charged(4999, "EUR", payment_id="pi_1", captured=False)),
        ("requires_payment_method", SimpleNamespace(code="card_declined"), Declined(code="card_declined")),
        ("requires_payment_method", None, Unknown("requires_payment_method")),
        ("canceled", None, NotCharged("the payment was cancelled at Stripe")),
        ("processing", None, Unknown("processing")),
    ],
)
def test_fastapi_stripe_reads_each_status(status: str, error: Any, outcome: Any) -> None:
    """What a payment's status means for the money."""
    intent = SimpleNamespace(id="pi_1", status=status, amount=4999, currency="eur", last_payment_error=error)
    assert load("fastapi_stripe/app.py").outcome_of(intent) == outcome


# --- the Django form


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


@pytest.mark.server
def test_django_form_double_submit_is_one_charge_and_another_card_may_follow(serve: Serve, gateway: Gateway, tmp_path: Path) -> None:
    """A decline shows the shop's own form again; the next card is charged once, also when its form is sent twice."""
    shop = serve(
        "examples.django_form.app:application",
        env={"SHOP_GATEWAY": gateway.url, "SHOP_STORE": f"sqlite:///{tmp_path}/shop.db"},
    )
    with httpx.Client(base_url=shop.url, trust_env=False, timeout=30.0, headers={"accept": "text/html"}) as browser:
        declined = browser.post("/checkout/pay", data={**hidden(browser.get("/").text), "source": "tok_declined"})
        assert (declined.status_code, "You were not charged" in declined.text) == (402, True)
        form = {**hidden(browser.get("/").text), "source": "tok_ok"}
        first, second = [browser.post("/checkout/pay", data=form) for _ in range(2)]
        assert first.headers["location"].startswith("/thank-you/")
        assert first.headers["location"] == second.headers["location"]
        assert "it is paid" in browser.get(first.headers["location"]).text
    assert len(gateway.standing()) == 1


# --- the webhook


async def send_event(client: httpx.AsyncClient, module: ModuleType, *, forged: bool = False, **event: Any) -> httpx.Response:
    body = json.dumps(event).encode()
    secret = b"not ours" if forged else module.WEBHOOK_SECRET
    return await client.post("/webhooks/gateway", content=body, headers={"x-signature": hmac.digest(secret, body, hashlib.sha256).hex()})


@pytest.mark.asyncio
async def test_webhook_once_repetitions_take_effect_once() -> None:
    """An event that comes three times books one courier and gets one answer; another one books another."""
    module = load("webhook_once/app.py")
    async with client_of(module.make_app(store="memory://")) as client:
        answers = [await send_event(client, module, id="evt_1", type="order.packed", order="FC-1") for _ in range(3)]
        other = await send_event(client, module, id="evt_2", type="order.packed", order="FC-2")
        forged = await send_event(client, module, forged=True, id="evt_3", type="order.packed", order="FC-3")
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"courier": "C-1"})] * 3
    assert other.json() == {"courier": "C-2"}
    assert forged.status_code == 401


@pytest.mark.asyncio
async def test_webhook_once_a_payment_that_nobody_knows_is_kept_for_a_person() -> None:
    """Proof of a payment without an order is put on record once, under one reference."""
    module = load("webhook_once/app.py")
    event = {"id": "evt_9", "type": "payment.succeeded", "key": "gk_1", "payment_id": "pay_1", "amount_minor": 4999, "currency": "EUR"}
    async with client_of(module.make_app(store="memory://")) as client:
        first, second = [await send_event(client, module, **event) for _ in range(2)]
    assert first.json() == second.json()
    assert first.json()["reference"]


# --- refunds


def refunds(gateway: FakeGateway, tmp_path: Path) -> Any:
    module = load("refund_cron/refund.py")
    guard = module.Guard(f"sqlite:///{tmp_path}/shop.db", shop=module.Shop("Fern & Co", phone="1"), gateways=[gateway], duties=False)
    return module.Refunds(guard, gateway)


@pytest.mark.asyncio
async def test_refund_cron_gives_back_once_however_often_it_runs(tmp_path: Path) -> None:
    """A gateway that does not answer is asked again by the next run; one that has given back is not."""
    gateway = FakeGateway()
    paid = await gateway.charge(Charge(4999, "EUR", source="tok_ok"), key="k1", timeout_seconds=1.0)
    assert isinstance(paid, Charged)
    due = [{"order": "FC-1", "customer": "ann", "payment_id": paid.payment_id, "amount_minor": 4999, "currency": "EUR"}]
    gateway.will_say("refund", [Unknown("no answer")])
    lines = [line for _ in range(3) for line in await refunds(gateway, tmp_path).run(due)]
    assert ["not yet" in line for line in lines] == [True, False, False]
    assert lines[1] == lines[2] == "FC-1: refunded, re_1"
    assert (gateway.count("refund"), gateway.standing) == (2, [])
