"""The official SDK against the gateway process's Stripe face: what really goes over the wire."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Refunded, Unknown
from cxguard.errors import ConfigurationError, GatewayUnreadable, WebhookRefused
from cxguard.gateways.base import OPERATION_MEMBER, Charge, Gateway, ListsPayments
from cxguard.gateways.stripe import StripeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

API_KEY = "sk_test_" + "x" * 24
WEBHOOK_SECRET = "whsec_made_for_this_test"


@asynccontextmanager
async def stripe_at(process: Any, **options: Any) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=process.url, webhook_secret=WEBHOOK_SECRET, **options)
    try:
        yield gateway
    finally:
        await gateway.aclose()


def card(name: str = "visa", **changes: Any) -> Charge:
    members: dict[str, Any] = {"amount_minor": 4999, "currency": "EUR", "source": f"pm_card_{name}", "order_id": "o1"}
    return Charge(**{**members, **changes})


async def test_it_is_a_gateway(gateway_process: Any) -> None:
    """It has all that the guard calls, and can show its books."""
    async with stripe_at(gateway_process) as gateway:
        assert isinstance(gateway, Gateway)
        assert isinstance(gateway, ListsPayments)


async def test_one_key_charges_once_and_is_found(gateway_process: Any, key: str) -> None:
    """The same key twice is one payment, with our key and the operation's id in its metadata."""
    async with stripe_at(gateway_process) as gateway:
        asked = card(metadata={OPERATION_MEMBER: "op1"})
        first = await gateway.charge(asked, key=key, timeout_seconds=5)
        assert isinstance(first, Charged)
        assert (first.amount_minor, first.currency, first.captured) == (4999, "EUR", True)
        assert await gateway.charge(asked, key=key, timeout_seconds=5) == first
        assert await gateway.find(key, timeout_seconds=5) == first
        (payment,) = gateway_process.payments(key)
        assert payment["metadata"] == {"cxguard_key": key, "cxguard_operation": "op1", "order_id": "o1"}


async def test_the_same_key_for_another_amount_stays_unknown(gateway_process: Any, key: str) -> None:
    """Stripe refuses it; what the key stands for is found by asking."""
    async with stripe_at(gateway_process) as gateway:
        await gateway.charge(card(), key=key, timeout_seconds=5)
        other = await gateway.charge(card(amount_minor=700), key=key, timeout_seconds=5)
        assert other == Unknown("the key was used for another request")
        assert len(gateway_process.payments(key)) == 1


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("chargeDeclined", Declined(DeclineReason.GENERIC, "generic_decline")),
        ("chargeDeclinedInsufficientFunds", Declined(DeclineReason.FUNDS, "insufficient_funds")),
        ("chargeDeclinedLostCard", Declined(DeclineReason.GENERIC, "generic_decline")),
        ("chargeDeclinedStolenCard", Declined(DeclineReason.GENERIC, "generic_decline")),
        ("chargeDeclinedFraudulent", Declined(DeclineReason.GENERIC, "generic_decline")),
        ("chargeDeclinedExpiredCard", Declined(DeclineReason.EXPIRED, "expired_card")),
        ("chargeDeclinedIncorrectCvc", Declined(DeclineReason.DETAILS, "incorrect_cvc")),
        ("no_such_card", NotCharged("refused: resource_missing")),
    ],
)
async def test_each_test_card_has_its_outcome(gateway_process: Any, key: str, name: str, outcome: Any) -> None:
    """Told at once, and the same when asked later."""
    async with stripe_at(gateway_process) as gateway:
        assert await gateway.charge(card(name), key=key, timeout_seconds=5) == outcome
        if isinstance(outcome, Declined):
            assert await gateway.find(key, timeout_seconds=5) == outcome


async def test_a_step_at_the_bank_needs_the_shopper_and_can_be_cancelled(gateway_process: Any, key: str) -> None:
    """`requires_action`, with the way to the bank; cancelled, it can charge no more."""
    async with stripe_at(gateway_process) as gateway:
        asked = await gateway.charge(card("authenticationRequired"), key=key, timeout_seconds=5)
        assert isinstance(asked, NeedsShopper)
        assert asked.resume_url.startswith("https://bank.example/")
        assert await gateway.cancel(key, timeout_seconds=5) == NotCharged("cancelled")
        assert await gateway.find(key, timeout_seconds=5) == NotCharged("cancelled")


async def test_without_the_shopper_the_bank_says_so_at_once(gateway_process: Any, key: str) -> None:
    """An off-session charge that would need the shopper is no plain decline."""
    async with stripe_at(gateway_process) as gateway:
        outcome = await gateway.charge(card("authenticationRequired", off_session=True), key=key, timeout_seconds=5)
        assert outcome == NeedsShopper("authentication_required")


async def test_a_reservation_is_captured_once(gateway_process: Any, key: str) -> None:
    """Authorised first; the capture under its own key takes the part that was asked for."""
    async with stripe_at(gateway_process) as gateway:
        reserved = await gateway.charge(card(capture=False), key=key, timeout_seconds=5)
        assert isinstance(reserved, Charged)
        assert not reserved.captured
        for _ in range(2):
            taken = await gateway.capture(
                reserved.payment_id, key=f"{key}-c", amount_minor=2000, currency="EUR", timeout_seconds=5
            )
            assert taken == Charged(2000, "EUR", reserved.payment_id)
        again = await gateway.capture(reserved.payment_id, key=f"{key}-d", amount_minor=1, currency="EUR", timeout_seconds=5)
        assert isinstance(again, NotCharged)
        stands = Charged(4999, "EUR", reserved.payment_id, captured=False)
        assert await gateway.find(key, timeout_seconds=5) == stands, "what the part has left was let go, and not given back"


async def test_refunds_are_made_once_and_never_too_much(gateway_process: Any, key: str) -> None:
    """A part, the same again, the rest, and no more."""
    async with stripe_at(gateway_process) as gateway:
        charged = await gateway.charge(card(), key=key, timeout_seconds=5)
        assert isinstance(charged, Charged)

        async def refund(step: str, amount_minor: int) -> Any:
            return await gateway.refund(
                charged.payment_id, key=f"{key}-{step}", amount_minor=amount_minor, currency="EUR", timeout_seconds=5
            )

        first = await refund("a", 1000)
        assert isinstance(first, Refunded)
        assert await refund("a", 1000) == first
        assert isinstance(await refund("b", 4000), NotCharged)
        assert isinstance(await refund("c", 3999), Refunded)
        assert await gateway.find(key, timeout_seconds=5) == Refunded(4999, "EUR")
        assert await gateway.find(f"{key}-a", timeout_seconds=5) == first, "a refund is found by its own key"


async def test_a_reservation_is_released_as_a_whole(gateway_process: Any, key: str) -> None:
    """Nothing was taken, so nothing is refunded: the payment is cancelled, however often it is asked for."""
    async with stripe_at(gateway_process) as gateway:
        reserved = await gateway.charge(card(capture=False), key=key, timeout_seconds=5)
        assert isinstance(reserved, Charged)
        for _ in range(2):
            released = await gateway.refund(
                reserved.payment_id, key=f"{key}-v", amount_minor=4999, currency="EUR", timeout_seconds=5
            )
            assert released == Refunded(4999, "EUR", reserved.payment_id)


@pytest.mark.parametrize("mode", ["time_out_after", "error_after", "garbage", "html", "half"])
async def test_whatever_spoils_the_answer_leaves_the_charge_unknown_and_findable(gateway_process: Any, key: str, mode: str) -> None:
    """Charged, and then nothing readable: never "not charged"; asked, Stripe says what it did."""
    async with stripe_at(gateway_process) as gateway:
        gateway_process.put(mode=mode)
        assert isinstance(await gateway.charge(card(), key=key, timeout_seconds=1), Unknown)
        gateway_process.put(mode="healthy")
        assert isinstance(await gateway.find(key, timeout_seconds=5), Charged)
        assert len(gateway_process.payments(key)) == 1


async def test_a_stored_500_is_replayed_and_no_second_charge_is_made(gateway_process: Any, key: str) -> None:
    """Stripe keeps failures, too: the same key says the same for a day, whatever became of the charge."""
    async with stripe_at(gateway_process) as gateway:
        gateway_process.put(mode="error_after")
        await gateway.charge(card(), key=key, timeout_seconds=5)
        gateway_process.put(mode="healthy")
        assert await gateway.charge(card(), key=key, timeout_seconds=5) == Unknown("HTTP 500")
        assert isinstance(await gateway.find(key, timeout_seconds=5), Charged)


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("error", Unknown("HTTP 500")),
        ("time_out_before", Unknown("no answer in time")),
        ("throttle", NotCharged("throttled", retryable=True, retry_after_seconds=1.0, reroutable=True)),
        ("refuse", NotCharged("not sent", retryable=True, reroutable=True)),
    ],
)
async def test_faults_before_the_work(gateway_process: Any, key: str, mode: str, outcome: Any) -> None:
    """Surely not charged only where Stripe turned it away or nothing was sent."""
    async with stripe_at(gateway_process) as gateway:
        gateway_process.put(mode=mode)
        assert await gateway.charge(card(), key=key, timeout_seconds=1) == outcome
        gateway_process.put(mode="healthy")
        assert await gateway.find(key, timeout_seconds=5) == Unknown("not_found")
        assert gateway_process.payments(key) == []


async def test_two_at_once_under_one_key_are_one_charge(gateway_process: Any, key: str) -> None:
    """The second meets the first one in progress: unknown, never "not charged"."""
    async with stripe_at(gateway_process) as gateway:
        gateway_process.post("/control/hold", count=1)
        first = asyncio.create_task(gateway.charge(card(), key=key, timeout_seconds=20))
        await asyncio.to_thread(gateway_process.ask, "GET", "/control/held?count=1&seconds=10", None)
        assert await gateway.charge(card(), key=key, timeout_seconds=5) == Unknown("processing")
        await asyncio.to_thread(gateway_process.post, "/control/release")
        assert isinstance(await first, Charged)
        assert len(gateway_process.payments(key)) == 1


async def test_a_charge_that_lands_late_is_found_then(gateway_process: Any, key: str) -> None:
    """Nobody listens any more when it lands; until then it is simply not found."""
    async with stripe_at(gateway_process) as gateway:
        gateway_process.put(mode="late", late_seconds=2.0)
        assert isinstance(await gateway.charge(card(), key=key, timeout_seconds=1.0), Unknown)
        gateway_process.put(mode="healthy")
        await asyncio.to_thread(gateway_process.ask, "GET", "/control/landed", None)
        assert isinstance(await gateway.find(key, timeout_seconds=5), Charged)


async def test_a_wrong_login_is_not_charged_and_not_repeated(gateway_process: Any, key: str) -> None:
    """Stripe refuses the key: another gateway may be asked, this one not again."""
    gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=gateway_process.url)
    gateway._api_key = "nobody"  # a key that was revoked
    outcome = await gateway.charge(card(), key=key, timeout_seconds=5)
    await gateway.aclose()
    assert outcome == NotCharged("refused: AuthenticationError", reroutable=True)


async def test_the_books_are_listed_over_several_pages(gateway_process: Any, key: str) -> None:
    """More than a page; each with its key, its outcome and what went back."""
    async with stripe_at(gateway_process) as gateway:
        for n in range(105):
            await gateway.charge(card(), key=f"{key}-{n}", timeout_seconds=5)
        since = min(payment["created_at"] for payment in gateway_process.payments(f"{key}-0"))
        listed = [each async for each in gateway.list_payments(since=since - 1, until=since + 1e6)]
        mine = {each.gateway_key for each in listed if each.gateway_key.startswith(key)}
        assert mine == {f"{key}-{n}" for n in range(105)}
        gateway_process.put(mode="error")
        with pytest.raises(GatewayUnreadable):
            _ = [each async for each in gateway.list_payments(since=since, until=since + 1e6)]


# --- webhooks


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, at: float | None = None) -> dict[str, str]:
    moment = int(time.time() if at is None else at)
    signature = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={moment},v1={signature}"}


EVENT = json.dumps({
    "id": "evt_1",
    "type": "payment_intent.succeeded",
    "data": {"object": {"id": "pi_1", "amount": 5, "currency": "eur", "status": "succeeded", "metadata": {"cxguard_key": "k"}}},
}).encode()


async def test_a_signed_webhook_is_a_fact(gateway_process: Any) -> None:
    """The header's name in any spelling."""
    async with stripe_at(gateway_process) as gateway:
        for name in ("stripe-signature", "Stripe-Signature"):
            fact = gateway.read_webhook(EVENT, {name: signed(EVENT)["stripe-signature"]})
            assert fact is not None
            assert (fact.outcome, fact.gateway_key) == (Charged(5, "EUR", "pi_1"), "k")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (EVENT, {}),
        (EVENT, {"stripe-signature": "nonsense"}),
        (EVENT, signed(EVENT, secret="another")),
        (EVENT + b" ", signed(EVENT)),
        (EVENT, signed(EVENT, at=0)),
        (b"{", signed(b"{")),
        (b"\xff", signed(b"\xff")),
    ],
)
async def test_a_webhook_of_anybody_else_is_refused(gateway_process: Any, body: bytes, headers: dict[str, str]) -> None:
    """Unsigned, signed by another, changed, too old, unreadable."""
    async with stripe_at(gateway_process) as gateway:
        with pytest.raises(WebhookRefused):
            gateway.read_webhook(body, headers)


async def test_webhooks_of_the_gateway_process_are_read(gateway_process: Any, key: str) -> None:
    """What the process would send is what the SDK's check accepts: sent here to a server of the test's own."""
    received: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        lower = {name.lower(): value for name, value in headers.items()}
        await received.put((await reader.readexactly(int(lower["content-length"])), headers))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, stripe_at(gateway_process) as gateway:
        hook = {"webhooks": "twice", "webhook_url": f"http://127.0.0.1:{port}/hook", "webhook_secret": WEBHOOK_SECRET}
        await asyncio.to_thread(lambda: gateway_process.put(**hook))
        try:
            charged = await gateway.charge(card(), key=key, timeout_seconds=5)
            facts = []
            for _ in range(2):
                body, headers = await received.get()
                facts.append(gateway.read_webhook(body, headers))
        finally:
            await asyncio.to_thread(lambda: gateway_process.put(webhooks="off"))
    assert facts[0] == facts[1]
    assert facts[0] is not None
    assert (facts[0].outcome, facts[0].gateway_key) == (charged, key)


# --- settings


@pytest.mark.parametrize(
    ("name", "api_key", "says"),
    [
        ("stripe:shop:live", API_KEY, 'write StripeGateway("stripe:shop:test", ...)'),
        ("stripe:shop:test", "sk_live_" + "x" * 24, 'write StripeGateway("stripe:shop:live", ...)'),
        ("stripe:shop:test", "pk_test_" + "x" * 24, "no secret key"),
        ("stripe:shop:test", "", "no secret key"),
    ],
)
async def test_a_key_of_the_other_mode_is_refused(name: str, api_key: str, says: str) -> None:
    """A sandbox never answers for live money."""
    with pytest.raises(ConfigurationError) as error:
        StripeGateway(name, api_key=api_key)
    assert says in str(error.value)
    assert not api_key or api_key not in str(error.value)


async def test_a_webhook_without_a_secret_is_a_setting_to_mend() -> None:
    """Believing unsigned events would let anybody say "paid"."""
    with pytest.raises(ConfigurationError, match="webhook_secret"):
        StripeGateway("stripe:shop:test", api_key=API_KEY).read_webhook(EVENT, signed(EVENT))


async def test_face_answers_without_a_login_as_stripe_does(gateway_process: Any) -> None:
    """401, and nothing is charged."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{gateway_process.url}/v1/payment_intents", data={"amount": "5"})
    assert answer.status_code == 401
