"""What shoppers are told, and what becomes of their order and money, when the gateway fails in each way."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard import Reading, has_status
from cxguard.core.breaker import BreakerPolicy, Label
from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import Charged
from cxguard.core.resolve import LOOK_EVENT
from cxguard.core.schedule import ATTEMPTS_MAX, BACKOFF_SECONDS_MAX
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, replay
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}
HTML = {"accept": "text/html"}


async def place(op: Any) -> dict[str, str]:
    """A shop's `later`: charge what was accepted, and name the order."""
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


def keeping(**changes: Any) -> Rule:
    return rule(**{"later": place, "terms": "2026-01", **changes})


async def only(shop: World) -> Any:
    page = await shop.store.search(Query(namespace="shop"))
    assert len(page.operations) == 1
    return page.operations[0]


async def test_an_order_in_an_outage_is_kept_for_a_client_that_understands_and_placed_later(world: Worlds) -> None:
    """202, not charged, saved; after the outage it is charged once, and the retry hears "paid"."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    assert (kept.status_code, kept.json()["situation"], kept.json()["money"]) == (202, "kept", "not_charged")
    assert kept.json()["order_saved"] is True
    shop.clock.advance(60.0)
    await shop.rest()
    paid = await shop.pay(**ASYNC)
    assert (paid.status_code, paid.json()["money"]) == (200, "charged")
    assert len(shop.gateway.standing) == 1


async def test_a_plain_json_client_is_told_503_and_its_order_is_not_kept(world: Worlds) -> None:
    """To a client that takes every 2xx for "paid" nothing may be kept."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["money"], answer.json()["order_saved"]) == (503, "not_charged", False)
    assert "retry-after" in answer.headers
    shop.clock.advance(3600.0)
    await shop.rest()
    assert shop.gateway.standing == []
    again = await shop.pay()
    assert again.status_code == 201


async def test_a_rule_without_later_keeps_nothing(world: Worlds) -> None:
    """Without the merchant's opt-in an outage is an honest 503."""
    shop = await world()
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    answer = await shop.pay(**ASYNC)
    assert (answer.status_code, answer.json()["situation"]) == (503, "not_kept")


async def test_a_browser_is_sent_to_the_status_page_which_says_it(world: Worlds) -> None:
    """303, so that a reload sends nothing; the page follows the order to "paid"."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**HTML)
    assert kept.status_code == 303
    page = await shop.client.get(kept.headers["location"], headers=HTML)
    assert page.status_code == 200
    assert "not been charged" in page.text
    shop.clock.advance(60.0)
    await shop.rest()
    status = await shop.client.get(kept.headers["location"], headers={"accept": "application/json"})
    assert (status.json()["situation"], status.json()["money"]) == ("placed", "charged")


async def test_silence_after_the_charge_is_resolved_within_the_request(world: Worlds) -> None:
    """The gateway charged and did not answer: one look-up, and the shopper gets the handler's own answer."""
    shop = await world()
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN)
    answer = await shop.pay()
    assert answer.status_code == 201
    assert len(shop.gateway.standing) == 1


async def test_silence_that_no_look_up_explains_is_told_as_unknown_and_never_as_a_decline(world: Worlds) -> None:
    """409 for a plain client, "do not pay again"; the very same key settles it later."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(Does.UNKNOWN)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["situation"], answer.json()["money"]) == (409, "unknown", "unknown")
    assert answer.json()["safe_to_retry"] is False
    for _ in range(5):
        shop.clock.advance(30.0)
        await shop.rest()
    operation = await only(shop)
    assert operation.state is State.FINISHED
    assert len(shop.gateway.standing) == 1


async def test_an_unknown_that_waits_for_the_breaker_uses_up_no_looks(world: Worlds) -> None:
    """While our own breaker lets no charge through, the same charge cannot be sent again: it waits, and nobody is called for it."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(Does.UNKNOWN)
    assert (await shop.pay(**ASYNC)).json()["situation"] == "unknown"
    breakers = shop.guard.engine.breakers
    breakers.force(shop.gateway.name, "charge", Label.OPEN, reason="the gateway said so", seconds=3_000.0)
    for _ in range(30):
        shop.clock.advance(60.0)
        await shop.rest()
    waiting = await only(shop)
    assert (waiting.state, sum(entry.event == LOOK_EVENT for entry in waiting.history)) == (State.QUEUED, 1)
    breakers.force(shop.gateway.name, "charge", None)
    shop.clock.advance(6_000.0)
    await shop.rest()
    assert (await only(shop)).state is State.FINISHED
    assert len(shop.gateway.standing) == 1


async def test_a_turn_that_the_breaker_ended_forgets_no_call_to_the_gateway(world: Worlds) -> None:
    """The same was sent again, in vain, and then our own breaker opened: the timeline has that call, if not the look before it."""
    shop = await world(charging_handler, keeping(), breakers=BreakerPolicy(consecutive_failures=2))
    shop.gateway.will(Does.UNKNOWN, *[Does.NOT_CHARGED] * 3)
    assert (await shop.pay(**ASYNC)).json()["situation"] == "unknown"
    shop.clock.advance(60.0)
    await shop.rest()
    waiting = await only(shop)
    calls = [entry for entry in waiting.history if entry.event == "payment.sent"]
    assert (len(waiting.sends), len(calls)) == (2, 2)


async def test_a_decline_is_told_once_the_issuer_said_it_and_another_card_may_follow(world: Worlds) -> None:
    """402; under the client's next key the next card is charged."""
    shop = await world()
    shop.gateway.will(Does.DECLINE)
    first = await shop.pay()
    assert (first.status_code, first.json()["money"], first.json()["safe_to_retry"]) == (402, "not_charged", True)
    again = await shop.pay()
    assert again.status_code == 402
    other = await shop.pay(key="k2")
    assert other.status_code == 201
    assert len(shop.gateway.standing) == 1


async def test_a_handler_that_swallows_the_deferral_and_says_thank_you_is_corrected(world: Worlds) -> None:
    """The record speaks, not the handler: no "paid" over money that is not there."""

    async def thankful(request: Request) -> Response:
        try:
            return await charging_handler(request)
        except Exception:
            return JSONResponse({"thanks": True}, status_code=201)

    shop = await world(thankful, keeping())
    shop.gateway.will(Does.UNKNOWN)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["money"]) == (409, "unknown")


async def test_a_handler_that_says_402_over_a_charge_is_not_let_through(world: Worlds) -> None:
    """The false-decline guard."""

    async def lying(request: Request) -> Response:
        await charging_handler(request)
        return JSONResponse({"error": "declined"}, status_code=402)

    shop = await world(lying)
    answer = await shop.pay()
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")


async def test_a_paid_order_whose_request_could_not_be_kept_is_a_persons_work(world: Worlds) -> None:
    """Card data is never kept, so nothing can place such an order again: it goes to the desk, and the shopper hears that."""

    async def failing(request: Request) -> Response:
        await charging_handler(request)
        raise RuntimeError("no order could be written")

    shop = await world(failing, keeping())
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", "note": "4242 4242 4242 4242"}
    paid = await shop.client.post("/pay", json=body, headers={"x-user": "ann", "idempotency-key": "k1", **ASYNC})
    assert (paid.status_code, paid.json()["situation"], paid.json()["money"]) == (202, "paid_unfinished", "charged")
    shop.clock.advance(60.0)
    await shop.rest()
    order = await only(shop)
    assert (order.state, order.why, order.waiting_for) == (State.HELD, "order_missing", WaitingFor.AGENT)


async def test_a_kept_order_that_is_cancelled_is_never_charged_and_says_so(world: Worlds) -> None:
    """A POST on the status page; done at once, because nobody has the order in hand."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    url = kept.json()["status_url"]
    cancelled = await shop.client.post(f"{url}/cancel", headers={"accept": "application/json"})
    assert (cancelled.json()["situation"], cancelled.json()["money"]) == ("cancelled", "not_charged")
    shop.clock.advance(3600.0)
    await shop.rest()
    assert shop.gateway.standing == []


async def test_an_order_that_waited_too_long_ends_and_is_never_charged(world: Worlds) -> None:
    """At its own end it is given up, and the status page says so."""
    shop = await world(charging_handler, keeping(give_up_seconds=60.0))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    shop.clock.advance(120.0)
    await shop.rest()
    status = await shop.client.get(kept.json()["status_url"], headers={"accept": "application/json"})
    assert (status.json()["situation"], status.json()["money"]) == ("gave_up", "not_charged")
    assert shop.gateway.standing == []


async def test_a_changed_basket_replaces_the_kept_request_while_it_is_surely_unpaid(world: Worlds) -> None:
    """Under a derived key; what is charged later is the last basket, once."""
    from cxguard.rules import json_field

    shop = await world(charging_handler, keeping(key=json_field("cart")))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(amount=1000, **ASYNC)
    replaced = await shop.pay(amount=700, **ASYNC)
    assert replaced.json()["situation"] == "replaced"
    shop.clock.advance(60.0)
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [700]


async def test_later_replay_runs_the_kept_request_through_the_app_again(world: Worlds) -> None:
    """The same handler, with the operation in hand; its answer is what the retry gets."""
    shop = await world(charging_handler, keeping(later=replay))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    assert kept.status_code == 202
    shop.clock.advance(60.0)
    await shop.rest()
    again = await shop.pay(**ASYNC)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert len(shop.gateway.standing) == 1


@pytest.mark.parametrize(
    ("reads", "status", "state", "why"),
    [
        ({}, 200, State.HELD, "replay_not_charged"),
        ({}, 201, State.FINISHED, ""),
        ({"reads": {Reading.SUCCEEDED: has_status(200)}}, 200, State.FINISHED, ""),
    ],
    ids=["a sign-in page", "an order on invoice", "by the rule"],
)
async def test_later_replay_that_charges_nothing_places_nothing(world: Worlds, reads: Any, status: int, state: State, why: str) -> None:
    """A sign-in page comes with 200, too: only the rule's own `reads`, or "created", make a success of an answer over no charge."""
    signed_in = True

    async def pay(request: Request) -> Response:
        return await charging_handler(request) if signed_in else JSONResponse({"please": "sign in"}, status_code=status)

    shop = await world(pay, keeping(later=replay, **reads))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept, signed_in = await shop.pay(**ASYNC), False
    shop.clock.advance(60.0)
    await shop.rest()
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (kept.status_code, order.state, order.why, shop.gateway.standing) == (202, state, why, [])


async def test_200_identical_submits_at_once_run_once_and_get_equal_answers(world: Worlds) -> None:
    """Duplicates wait for the first one's answer."""
    runs: list[int] = []

    async def handler(request: Request) -> Response:
        runs.append(1)
        await asyncio.sleep(0)
        return await charging_handler(request)

    shop = await world(handler, rule(wait_seconds=10.0))
    answers = await asyncio.gather(*(shop.pay() for _ in range(200)))
    assert len(runs) == 1
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}


async def test_a_first_click_that_takes_longer_than_the_second_may_wait_is_in_flight(world: Worlds) -> None:
    """409 with Retry-After, and money is not called "not charged" while a charge may leave."""
    gateway = FakeGateway()
    shop = await world(charging_handler, gateway=gateway)
    gateway.will(Does.HANG)
    first = asyncio.create_task(shop.pay())
    await gateway.until_hanging()
    second = await shop.pay()
    assert (second.status_code, second.json()["situation"], second.json()["money"]) == (409, "in_flight", "unknown")
    assert "retry-after" in second.headers
    await gateway.release()
    assert (await first).status_code == 201


async def test_a_mismatch_under_the_clients_key_is_422(world: Worlds) -> None:
    """The draft's rule: same key, other payload."""
    shop = await world()
    await shop.pay(amount=1000)
    answer = await shop.pay(amount=2000)
    assert (answer.status_code, answer.json()["situation"]) == (422, "mismatch")
    assert len(shop.gateway.standing) == 1


async def test_every_answer_of_ours_names_a_way_to_reach_somebody(world: Worlds) -> None:
    """Contact, no-store, language: on every one of them."""
    shop = await world(charging_handler, keeping())
    shop.gateway.will(Does.UNKNOWN)
    answers: list[httpx.Response] = [await shop.pay(), await shop.pay(key=None), await shop.pay(key="x", owner="")]
    for answer in answers:
        assert answer.json()["contact"]["phone"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-language"] == "en"


async def test_charges_that_the_handler_makes_again_in_the_same_run_are_one(world: Worlds) -> None:
    """`op.charge` called twice gives the same charge."""

    async def twice(request: Request) -> Response:
        charge = Charge(1000, "EUR", source="tok_ok")
        first = await current_operation().charge(charge)
        second = await current_operation().charge(charge)
        assert isinstance(first, Charged)
        return JSONResponse({"same": first == second}, status_code=201)

    shop = await world(twice)
    assert (await shop.pay()).json() == {"same": True}
    assert len(shop.gateway.standing) == 1


async def test_an_order_that_was_confirmed_as_a_second_one_can_be_kept_and_placed_too(world: Worlds) -> None:
    """Its kept request is sealed for its own record, so that it opens when it is placed."""
    from cxguard.rules import json_field

    shop = await world(charging_handler, keeping(key=json_field("cart"), duplicate_window_seconds=60.0))
    first = await shop.pay(**ASYNC)
    assert first.status_code == 201
    shop.clock.advance(120.0)
    like = await shop.pay(**ASYNC)
    assert like.json()["situation"] == "duplicate"
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC, **{"cxguard-confirm-duplicate": like.json()["reference"]})
    assert kept.json()["situation"] == "kept"
    shop.clock.advance(60.0)
    await shop.rest()
    assert len(shop.gateway.standing) == 2


async def test_without_the_optional_header_a_request_passes_as_if_there_were_no_guard(world: Worlds) -> None:
    """Not even its body is read; with the header it is guarded."""
    heard: list[str] = []
    shop = await world(charging_handler, rule(key_required=False), listeners=[lambda event: heard.append(event.name)])
    first, second = await shop.pay(key=None), await shop.pay(key=None)
    assert (first.status_code, second.status_code) == (201, 201)
    assert len(shop.gateway.standing) == 2
    assert heard == ["key.missing", "key.missing"]
    await shop.pay(key="k1")
    await shop.pay(key="k1")
    assert len(shop.gateway.standing) == 3


async def test_a_paid_order_that_cannot_be_placed_for_a_day_is_a_persons_work(world: Worlds) -> None:
    """It is tried a hundred times and more, and not for ever: then somebody looks, and may put it back."""

    async def fails(op: Any) -> None:
        await place(op)
        raise RuntimeError("no order could be written")

    shop = await world(charging_handler, keeping(later=fails), gateway=FakeGateway(otherwise=Does.NOT_CHARGED))
    await shop.pay(**ASYNC)
    shop.gateway.otherwise = Does.CHARGE
    while (order := await only(shop)).state is State.QUEUED:
        shop.clock.advance(BACKOFF_SECONDS_MAX)
        await shop.rest()
    assert (order.state, order.why, order.waiting_for, order.attempts) == (State.HELD, "order_missing", WaitingFor.AGENT, ATTEMPTS_MAX)
    assert len(shop.gateway.standing) == 1
