"""What goes to Stripe and what comes back, word by word, where a whole Stripe would be in the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from stripe_script import API_KEY, INTENTS, NO_MATCH, Answer, card, http, intent, page, refund, scripted, stripe_saying

from cxguard.core.outcomes import Charged, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.errors import GatewayUnreadable
from cxguard.gateways.stripe import StripeGateway
from cxguard.gateways.stripe_client import ANSWER_BYTES_MAX

pytestmark = pytest.mark.server

# --- answers that are none

SPOILT: list[tuple[Answer, Outcome]] = [
    (b"", Unknown("no answer")),
    (b"SSH-2.0-OpenSSH_9.2\r\n", Unknown("no answer")),
    (b"HTTP/1.1 200 OK\r\ncontent-len", Unknown("no answer")),
    (http(b'{"id": "pi_1", "sta', length=500), Unknown("no answer")),
    (http(b"not gzip", more="Content-Encoding: gzip\r\n"), Unknown("no answer")),
    (http(b"x" * (ANSWER_BYTES_MAX + 1)), Unknown("no answer")),
    (http(b""), Unknown("HTTP 200")),
    (http(b"<html>Welcome</html>"), Unknown("HTTP 200")),
    (http(b'{"id": "pi_1", "sta'), Unknown("HTTP 200")),
    (http(b"<html>Bad gateway</html>", status=502), Unknown("HTTP 502")),
    (http(b"<html>Forbidden</html>", status=403), Unknown("HTTP 403")),
    (http(b"", status=302, more="Location: http://127.0.0.1:1/\r\n"), Unknown("HTTP 302")),
    (http(b"<html>Slow down</html>", status=429), NotCharged("throttled", retryable=True, reroutable=True)),
    ((404, {"detail": "Not Found"}), Unknown("HTTP 404")),
    ((500, {"error": []}), Unknown("an answer that cannot be read: AttributeError")),
    ((200, {"error": {"type": "api_error", "message": "oops"}}), Unknown("an answer without a readable amount and currency")),
    ((200, []), Unknown("an answer without a readable amount and currency")),
    ((200, None), Unknown("an answer that cannot be read: TypeError")),
    ((200, intent(metadata={"cxguard_key": "of another"})), Unknown("the answer is about another key")),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("answer", "outcome"), SPOILT)
async def test_what_is_no_answer_of_stripes_leaves_the_money_unknown(answer: Answer, outcome: Outcome) -> None:
    """Cut off, from somebody in between, of the wrong shape, or an error in a success: none of it says "not charged"."""
    async with stripe_saying({"*": [answer]}) as (gateway, _):
        assert await gateway.charge(card(), key="k", timeout_seconds=5) == outcome


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [answer for answer, _ in SPOILT])
async def test_books_that_cannot_be_read_are_not_taken_for_empty_ones(answer: Answer) -> None:
    """A nightly look at half a list would find payments missing that are there."""
    async with stripe_saying({"*": [answer]}) as (gateway, _):
        with pytest.raises(GatewayUnreadable):
            _ = [each async for each in gateway.list_payments(since=0, until=1)]


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [answer for answer, _ in SPOILT])
async def test_questions_without_an_answer_say_nothing_about_the_money(answer: Answer) -> None:
    """Neither a look nor a cancel that failed is taken for "not charged", nor for "not found"."""
    async with stripe_saying({"*": [answer]}) as (gateway, _):
        for ask in (gateway.find, gateway.cancel):
            told = await ask("k", timeout_seconds=5)
            assert isinstance(told, Unknown) and told.why != "not_found"


@pytest.mark.asyncio
async def test_silence_is_given_up_in_time() -> None:
    """An answer that drips is given up within the attempt's time."""
    async with stripe_saying({"*": [http(b"{", length=2)]}) as (gateway, script):
        holds = asyncio.Event()
        script.hold = holds.wait
        told = await gateway.charge(card(), key="k", timeout_seconds=0.2)
        holds.set()
    assert told == Unknown("no answer in time")


@pytest.mark.asyncio
async def test_nobody_at_the_address_is_surely_not_charged() -> None:
    """The connection was refused: not a byte was sent."""
    async with scripted({}) as script:
        closed = script.url
    gateway = StripeGateway("stripe:shop:test", api_key=API_KEY, base_url=closed)
    told = await gateway.charge(card(), key="k", timeout_seconds=5)
    await gateway.aclose()
    assert told == NotCharged("not sent", retryable=True, reroutable=True)


# --- what is sent


@pytest.mark.asyncio
async def test_a_charge_is_sent_once_with_its_key_and_without_the_sdks_retries() -> None:
    """A 500 is not repeated behind the guard's back, under whatever key."""
    async with stripe_saying({"*": [(500, {"error": {"type": "api_error"}})]}) as (gateway, script):
        await gateway.charge(card(order_id="o1", metadata={"cxguard_operation": "op1"}), key="k", timeout_seconds=5)
    (asked,) = script.asked
    assert (asked.route, asked.key) == (f"POST {INTENTS}", "k")
    assert asked.form == {
        "amount": "4999",
        "currency": "eur",
        "payment_method": "pm_1",
        "confirm": "true",
        "capture_method": "automatic",
        "metadata[cxguard_key]": "k",
        "metadata[cxguard_operation]": "op1",
        "metadata[order_id]": "o1",
        "automatic_payment_methods[enabled]": "true",
        "automatic_payment_methods[allow_redirects]": "never",
    }


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "return_url", "sent"),
    [
        ({"capture": False}, "", {"capture_method": "manual"}),
        ({"off_session": True}, "", {"off_session": "true"}),
        ({"method": "sepa_debit"}, "", {"payment_method_types[0]": "sepa_debit"}),
        ({}, "https://shop.example/back", {"return_url": "https://shop.example/back", "automatic_payment_methods[enabled]": "true"}),
        ({"amount_minor": 5, "currency": "ISK"}, "", {"amount": "500", "currency": "isk"}),
        ({"amount_minor": 500, "currency": "MGA"}, "", {"amount": "5", "currency": "mga"}),
    ],
)
async def test_each_wish_has_its_parameter(changes: dict[str, Any], return_url: str, sent: dict[str, str]) -> None:
    """Reserving, the shopper away, one method, a way back from the bank, and currencies with units of Stripe's own."""
    async with stripe_saying({"*": [(200, intent())]}, return_url=return_url) as (gateway, script):
        await gateway.charge(card(**changes), key="k", timeout_seconds=5)
    (asked,) = script.asked
    assert sent.items() <= asked.form.items()


@pytest.mark.asyncio
async def test_a_shopper_who_is_away_is_sent_nowhere() -> None:
    """A charge without the shopper has no way back from a bank."""
    async with stripe_saying({"*": [(200, intent())]}, return_url="https://shop.example/back") as (gateway, script):
        await gateway.charge(card(off_session=True), key="k", timeout_seconds=5)
    assert "return_url" not in script.asked[0].form


@pytest.mark.asyncio
async def test_what_stripe_cannot_count_is_never_sent() -> None:
    """Not charged, not captured, not refunded: and said why."""
    odd: dict[str, Any] = {"amount_minor": 1235, "currency": "KWD", "timeout_seconds": 5}
    async with stripe_saying({f"GET {INTENTS}/pi_1": [(200, intent(currency="kwd"))]}) as (gateway, script):
        told = [
            await gateway.charge(card(amount_minor=1235, currency="KWD"), key="k", timeout_seconds=5),
            await gateway.capture("pi_1", key="c", **odd),
            await gateway.refund("pi_1", key="r", **odd),
        ]
    assert told == [NotCharged("refused: Stripe rounds KWD to tens: give a multiple of 10")] * 3
    assert all(asked.route.startswith("GET") for asked in script.asked)


# --- cancelling


def found_as(*states: dict[str, Any], cancel: Answer) -> dict[str, list[Answer]]:
    hit = (200, {"object": "search_result", "url": "/s", "has_more": False, "data": [states[0]]})
    return {
        f"GET {INTENTS}/search": [hit],
        f"GET {INTENTS}/pi_1": [(200, state) for state in states],
        f"POST {INTENTS}/pi_1/cancel": [cancel],
    }


TOO_LATE = (400, {"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("states", "cancel", "outcome"),
    [
        ([intent("requires_action")], (200, intent("canceled")), NotCharged("cancelled")),
        ([intent("requires_action"), intent(amount_received=4999)], TOO_LATE, Charged(4999, "EUR", "pi_1")),
        ([intent("processing"), intent("processing")], TOO_LATE, Unknown("processing")),
        ([intent("requires_action")], (500, {"error": {"type": "api_error"}}), Unknown("could not ask: APIError")),
        ([intent("requires_action")], (429, {"error": {"type": "x"}}), Unknown("could not ask: RateLimitError")),
        ([intent("canceled")], TOO_LATE, NotCharged("cancelled")),
        ([intent("requires_capture")], TOO_LATE, Charged(4999, "EUR", "pi_1", captured=False)),
    ],
)
async def test_each_race_of_a_cancel_ends_in_what_happened(states: list[dict[str, Any]], cancel: Answer, outcome: Outcome) -> None:
    """Cancelled; or the shopper was quicker at the bank; or nobody knows yet."""
    async with stripe_saying(found_as(*states, cancel=cancel)) as (gateway, script):
        assert await gateway.cancel("k", timeout_seconds=5) == outcome
    kept = {asked.key for asked in script.of(f"POST {INTENTS}/pi_1/cancel")}
    assert "k" not in kept and "k-cancel" not in kept, "a refusal would be replayed for a day"


@pytest.mark.asyncio
async def test_nothing_to_cancel_is_not_the_same_as_cancelled() -> None:
    """A request that is still on its way may land later."""
    answers: dict[str, list[Answer]] = {f"GET {INTENTS}/search": [NO_MATCH], f"GET {INTENTS}": [page()]}
    async with stripe_saying(answers) as (gateway, _):
        assert await gateway.cancel("k", timeout_seconds=5) == Unknown("not_found")


# --- refunds


PENDING = (200, refund("pending"))


def refunding(*made: Answer, now: Answer = PENDING, charged: dict[str, Any] | None = None) -> dict[str, list[Answer]]:
    return {
        f"GET {INTENTS}/pi_1": [(200, charged or intent(amount_received=4999))],
        "POST /v1/refunds": list(made),
        "GET /v1/refunds/re_1": [now],
    }


RATE_LIMITED = (429, {"error": {"type": "invalid_request_error", "code": "rate_limit"}})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        (refunding((200, refund())), Refunded(1000, "EUR", "re_1")),
        (refunding((200, refund("pending"))), Unknown("processing")),
        (refunding((200, refund("pending")), now=(200, refund())), Refunded(1000, "EUR", "re_1")),
        (refunding((200, refund("pending")), now=(200, refund("failed"))), NotCharged("refund failed")),
        (refunding((200, refund("pending")), now=RATE_LIMITED), Unknown("processing")),
        (refunding((200, refund("pending")), now=b""), Unknown("processing")),
        (refunding((200, refund(amount=900))), Unknown("asked for 1000 EUR, told 900 EUR")),
        (refunding((500, {"error": {"type": "api_error"}})), Unknown("HTTP 500")),
        (refunding(b""), Unknown("no answer")),
        (refunding(RATE_LIMITED), NotCharged("throttled", retryable=True, reroutable=True)),
        (
            refunding((400, {"error": {"type": "invalid_request_error", "code": "charge_already_refunded"}})),
            NotCharged("refused: charge_already_refunded"),
        ),
    ],
)
async def test_each_answer_to_a_refund_has_its_meaning(answers: dict[str, list[Answer]], outcome: Outcome) -> None:
    """A pending one may be a replay of what was said days ago: it is asked for as it is now, and never "not refunded" for not answering."""
    async with stripe_saying(answers) as (gateway, script):
        assert await gateway.refund("pi_1", key="r", amount_minor=1000, currency="EUR", timeout_seconds=5) == outcome
    (asked,) = script.of("POST /v1/refunds")
    assert (asked.key, asked.form) == ("r", {"payment_intent": "pi_1", "amount": "1000", "metadata[cxguard_key]": "r"})


@pytest.mark.asyncio
async def test_a_refund_is_found_by_its_own_key() -> None:
    """Past the key's life it cannot be sent again: so it must be found."""
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [NO_MATCH],
        f"GET {INTENTS}": [page(intent())],
        "GET /v1/refunds": [page(refund(id="re_0", metadata={}), refund("pending"), url="/v1/refunds")],
        "GET /v1/refunds/re_1": [(200, refund())],
    }
    async with stripe_saying(answers) as (gateway, _):
        assert await gateway.find("r", timeout_seconds=5) == Refunded(1000, "EUR", "re_1")


@pytest.mark.asyncio
async def test_a_key_that_may_not_see_refunds_has_made_none() -> None:
    """A restricted key without that right still says "not found" of a charge."""
    forbidden = (403, {"error": {"type": "invalid_request_error"}})
    answers: dict[str, list[Answer]] = {
        f"GET {INTENTS}/search": [NO_MATCH],
        f"GET {INTENTS}": [page()],
        "GET /v1/refunds": [forbidden],
    }
    async with stripe_saying(answers) as (gateway, _):
        assert await gateway.find("k", timeout_seconds=5) == Unknown("not_found")


@pytest.mark.asyncio
async def test_a_reservation_in_units_of_stripes_own_is_released() -> None:
    """5 krónur reserved are 500 at Stripe, and 5 released."""
    reserved = intent("requires_capture", amount=500, currency="isk")
    answers: dict[str, list[Answer]] = {
        **refunding(charged=reserved),
        f"POST {INTENTS}/pi_1/cancel": [(200, {**reserved, "status": "canceled"})],
    }
    async with stripe_saying(answers) as (gateway, _):
        told = await gateway.refund("pi_1", key="v", amount_minor=5, currency="ISK", timeout_seconds=5)
        assert told == Refunded(5, "ISK", "pi_1")
        part = await gateway.refund("pi_1", key="v2", amount_minor=4, currency="ISK", timeout_seconds=5)
        assert part == NotCharged("refused: a reservation is released as a whole")


# --- declines that come with a payment


@pytest.mark.asyncio
async def test_a_bank_that_wants_the_shopper_says_where() -> None:
    """A decline for want of authentication, with the payment that it is about."""
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": "https://bank.example/1"}}
    error = {"type": "card_error", "code": "authentication_required", "payment_intent": intent("requires_action", next_action=action)}
    async with stripe_saying({"*": [(402, {"error": error})]}) as (gateway, _):
        told = await gateway.charge(card(off_session=True), key="k", timeout_seconds=5)
    assert told == NeedsShopper("authentication_required", "https://bank.example/1")
