"""Ends of runs in which handler, money and record say different things: nobody is charged after a no, or told a yes over one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from shopworld import Worlds, charging_handler, rule
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from cxguard.core.operation import State
from cxguard.core.outcomes import Charged, NotCharged, Unknown
from cxguard.core.resolve import SILENCE_EVENT
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined, StepResultLost
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


@pytest.mark.parametrize("status", [422, 500])
async def test_an_order_that_was_refused_after_a_step_is_never_charged_later(world: Worlds, status: int) -> None:
    """The shopper was told no: the steps are kept for the next submit, but nobody places the order by itself."""

    async def handler(request: Request) -> Response:
        await current_operation().step("reserve", lambda: {"reserved": True})
        return JSONResponse({"error": "we do not ship there"}, status_code=status)

    shop = await world(handler, rule(later=place, terms="2026-01"))
    told = await shop.pay(**ASYNC)
    assert told.status_code == (422 if status == 422 else 503)
    for _ in range(30):
        shop.clock.advance(3_600.0)
        await shop.rest()
    assert shop.gateway.payments == []


async def test_a_refund_without_an_answer_is_asked_about_also_where_the_handler_failed_then(world: Worlds) -> None:
    """Held for a person, the order was due no more, and told as paid for ever."""

    async def handler(request: Request) -> Response:
        await current_operation().charge(Charge(1000, "EUR", source="tok_ok"))
        await current_operation().refund(reason="sold out")
        raise AssertionError("not reached")

    shop = await world(handler)
    shop.gateway.will_say("refund", [Unknown("no answer in time")])
    assert (await shop.pay()).json()["money"] == "unknown"
    shop.clock.advance(60.0)
    await shop.rest()
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (order.state, order.why, shop.gateway.standing) == (State.CANCELLED, "refunded", [])


async def test_a_key_that_was_freed_after_a_look_up_can_be_used_again(world: Worlds) -> None:
    """Told "not charged, safe to try again": the same key is run, and charges once."""
    shop = await world()
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [NotCharged("no payment under this key, and none can come")])
    first = await shop.pay()
    assert (first.status_code, first.json()["safe_to_retry"]) == (503, True)
    second = await shop.pay()
    assert second.status_code == 201
    assert len(shop.gateway.standing) == 1


@pytest.mark.parametrize("kind", ["a card number", "a client that is not told"])
async def test_a_changed_basket_that_may_not_be_kept_leaves_the_kept_one_alone(world: Worlds, kind: str) -> None:
    """It is told about the order that waits, which is placed as it was."""
    shop = await world(charging_handler, rule(later=place, terms="2026-01", key=json_field("cart")))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    await shop.pay(key=None, amount=1000, **ASYNC)
    card = {"card_number": "4242424242424242"} if kind == "a card number" else {}
    headers = {"x-user": "ann", **(ASYNC if card else {})}
    told = await shop.client.post("/pay", json={"amount": 700, "currency": "EUR", "cart": "c1", **card}, headers=headers)
    assert told.json()["situation"] == "kept"
    shop.clock.advance(600.0)
    await shop.rest()
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1000]


async def test_an_order_that_is_placed_is_not_paid_back_by_an_old_tab(world: Worlds) -> None:
    """The page of a kept order still shows its button after the order was placed: pressing it gives back nothing."""
    shop = await world(charging_handler, rule(later=place, terms="2026-01"))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.pay(**ASYNC)
    shop.clock.advance(600.0)
    await shop.rest()
    told = await shop.client.post(f"{kept.json()['status_url']}/cancel", headers={"accept": "application/json"})
    assert (told.json()["situation"], told.json()["money"]) == ("placed", "charged")
    await shop.rest()
    assert len(shop.gateway.standing) == 1


async def swallowing(request: Request, answer: Response) -> Response:
    try:
        return await charging_handler(request)
    except PaymentDeclined:
        return answer


async def test_a_handler_that_says_thank_you_over_a_decline_is_corrected(world: Worlds) -> None:
    """The issuer said no, so the shopper is told so, now and on the retry."""

    async def handler(request: Request) -> Response:
        return await swallowing(request, JSONResponse({"thanks": True}, status_code=201))

    shop = await world(handler)
    shop.gateway.will(Does.DECLINE)
    answers = [await shop.pay(), await shop.pay()]
    assert [(answer.status_code, answer.json()["money"]) for answer in answers] == [(402, "not_charged")] * 2


async def test_a_handler_that_forgets_to_await_its_charge_is_corrected(world: Worlds) -> None:
    """Nothing was sent, so "paid" would be a lie, and the goods would leave for nothing."""
    asked: list[Any] = []

    async def handler(request: Request) -> Response:
        asked.append(current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1")))
        return JSONResponse({"thanks": True}, status_code=201)

    shop = await world(handler)
    answer = await shop.pay()
    asked.pop().close()
    assert (answer.status_code, answer.json()["money"], answer.json()["safe_to_retry"]) == (503, "not_charged", True)
    assert shop.gateway.payments == []


async def test_a_handler_that_awaits_its_charge_late_is_believed(world: Worlds) -> None:
    """What counts is that it was awaited, not where."""

    async def handler(request: Request) -> Response:
        charge = current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1"))
        return JSONResponse({"paid": (await charge).payment_id}, status_code=201)

    shop = await world(handler)
    assert (await shop.pay()).status_code == 201
    assert len(shop.gateway.standing) == 1


async def test_a_handler_that_sends_a_declined_shopper_back_to_the_checkout_is_let_through(world: Worlds) -> None:
    """A redirect says nothing by its status: the record says declined, and the shop's own page tells it."""

    async def handler(request: Request) -> Response:
        return await swallowing(request, RedirectResponse("/checkout?problem=declined", 303))

    shop = await world(handler)
    shop.gateway.will(Does.DECLINE)
    answer = await shop.pay(accept="text/html")
    assert (answer.status_code, answer.headers["location"]) == (303, "/checkout?problem=declined")


async def test_an_uncharged_operation_that_fails_after_its_answer_is_not_run_again(world: Worlds) -> None:
    """Its first client may have heard "done": a person looks, and a repetition runs nothing."""
    runs: list[int] = []

    async def mail() -> None:
        raise RuntimeError("no mail server")

    async def handler(request: Request) -> Response:
        runs.append(1)
        return JSONResponse({"done": True}, background=BackgroundTask(mail))

    shop = await world(handler)
    await shop.pay()
    await shop.pay()
    assert runs == [1]
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (operation.state, operation.why) == (State.HELD, "failed_after_answer")


async def test_paid_order_past_its_own_end_is_tried_with_pauses(world: Worlds) -> None:
    """It is tried until it is there, but not again and again in one moment: each try runs the shop's own code."""
    tries = []

    async def fails(op: Any) -> dict[str, str]:
        tries.append(op.reference)
        raise RuntimeError("the order cannot be written")

    async def charges_and_fails(request: Request) -> Response:
        await charging_handler(request)
        raise RuntimeError("the order cannot be written")

    shop = await world(charges_and_fails, rule(later=fails, terms="2026-01", give_up_seconds=900.0))
    await shop.pay(prefer="respond-async")
    shop.clock.advance(1000.0)
    await shop.rest()
    assert len(tries) == 1
    shop.clock.advance(3600.0)
    await shop.rest()
    assert len(tries) == 2


async def test_what_the_shops_own_hook_finds_is_told_as_the_shops(world: Worlds) -> None:
    """Its code charged and failed, and its own look says so: no gateway of the guard's was asked."""

    async def fails(request: Request) -> Response:
        return JSONResponse({"error": "the mail server is away"}, status_code=500)

    async def resolve(op: Any) -> Charged:
        return Charged(1000, "EUR")

    heard: list[Event] = []
    shop = await world(fails, rule(charged_by="shop", resolve=resolve), listeners=[heard.append])
    await shop.pay()
    found = [event.detail for event in heard if event.name == "payment.resolved"]
    assert found == [{"gateway": "shop", "outcome": "charged", "how": "resolve"}]


async def test_a_hook_of_the_shops_that_breaks_is_on_the_timeline_with_what_broke(world: Worlds) -> None:
    """It has told nothing about the money; its people want to know that it broke."""

    async def fails(request: Request) -> Response:
        return JSONResponse({"error": "the mail server is away"}, status_code=500)

    async def resolve(op: Any) -> Charged:
        raise OSError("no route")

    shop = await world(fails, rule(charged_by="shop", resolve=resolve))
    await shop.pay()
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert [entry.detail["why"] for entry in order.history if entry.event == SILENCE_EVENT] == ["OSError while asking"]


async def test_a_good_answer_over_a_held_order_is_kept(world: Worlds) -> None:
    """It is charged, and the result of a step is lost, so that a person looks first; what the handler said is there for the shopper."""

    async def handler(request: Request) -> Response:
        paid = await charging_handler(request)
        op = current_operation()
        await op.step("book", lambda: {1, 2})
        with suppress(StepResultLost):
            await op.step("book", lambda: {1, 2})
        return paid

    shop = await world(handler)
    assert (await shop.pay()).json()["situation"] == "paid_unfinished"
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (order.state, order.why, order.answer is not None) == (State.HELD, "result_not_kept", True)


@pytest.mark.parametrize("kept", [True, False])
async def test_an_order_that_waits_for_its_shopper_is_kept(world: Worlds, kept: bool) -> None:
    """Whoever went to the bank finds it again."""
    shop = await world(charging_handler, rule(later=place, terms="2026-01") if kept else rule())
    shop.gateway.will(Does.NEEDS_SHOPPER)
    await shop.pay(**ASYNC)
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (order.state, order.kept) == (State.HELD, kept)


async def test_the_line_of_a_press_that_the_shop_turned_away_says_who_did(world: Worlds) -> None:
    """Its own code charges, and its answer is all that is known of the money."""

    async def refuses(request: Request) -> Response:
        return JSONResponse({"error": "we do not ship there"}, status_code=404)

    async def place_later(op: Any) -> None:
        """Never called."""

    shop = await world(refuses, rule(charged_by="shop", later=place_later, terms="2026-01"))
    await shop.pay()
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert [send.outcome for send in order.sends] == [NotCharged("rejected by the shop")]


async def test_a_charge_that_its_handler_gave_up_is_asked_about_also_in_the_last_second(world: Worlds) -> None:
    """It waited for the gateway until half a second was left, and says that nothing was paid: that is found out first."""
    gateway = FakeGateway(Does.CHARGE_THEN_HANG)

    async def handler(request: Request) -> Response:
        charge = asyncio.create_task(charging_handler(request))
        await gateway.until_hanging()
        shop.clock.advance(4.5)
        charge.cancel()
        await asyncio.wait({charge})
        return JSONResponse({}, status_code=402)

    shop = await world(handler, rule(deadline_seconds=5.0), gateway=gateway)
    told = (await shop.pay()).json()
    assert (told["situation"], told["money"], gateway.count("find")) == ("paid_unfinished", "charged", 1)
