"""Charging later rests on the shopper's word: asked for, kept on the record, and never stretched."""

from __future__ import annotations

from typing import Any

import pytest
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.consent import Consent
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.engine.handle import current_operation
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.rules import Arrival, Rule, json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
    return {"paid": payment.payment_id}


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok", capture=body.get("capture", True)))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def keeping(**changes: Any) -> Rule:
    return rule(**{"later": place, "terms": "2026-11", **changes})


async def outage(world: Worlds, *, heard: list[Event] | None = None, **changes: Any) -> World:
    """A shop whose gateway takes no connection."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    return await world(pay, keeping(**changes), gateway=gateway, listeners=[heard.append] if heard is not None else [])


async def submit(shop: World, *, key: str = "k1", **more: Any) -> Any:
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", **more}
    return await shop.client.post("/pay", json=body, headers={"x-user": "ann", "idempotency-key": key, **ASYNC})


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def recovered(shop: World, *, after_seconds: float = 60.0) -> None:
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(after_seconds)
    await shop.rest()


@pytest.mark.parametrize("said", [True, "true", "on", "Yes", 1, "2026-11"])
async def test_a_clear_yes_is_kept_on_the_record(world: Worlds, said: Any) -> None:
    """The version of the text, when, up to which amount, and until when; and the late charge is marked as one."""
    shop = await outage(world, consent=json_field("agrees_to_wait"), consent_seconds=3_600.0)
    assert (await submit(shop, agrees_to_wait=said)).status_code == 202
    now = shop.clock.now()
    assert (await only(shop)).consent == Consent("2026-11", at=now, until=now + 3_600.0, ceiling_minor=1000, currency="EUR")
    await recovered(shop)
    assert [payment.charge.off_session for payment in shop.gateway.standing] == [True]


@pytest.mark.parametrize("said", [False, "false", "off", "", 0, None, "2026-10", ["on"]])
async def test_without_a_clear_yes_the_order_is_not_kept(world: Worlds, said: Any) -> None:
    """503, not charged, basket kept; also for an older version of the text."""
    heard: list[Event] = []
    shop = await outage(world, heard=heard, consent=json_field("agrees_to_wait"))
    answer = await submit(shop, agrees_to_wait=said)
    assert (answer.status_code, answer.json()["order_saved"]) == (503, False)
    assert [event.detail["why"] for event in heard if event.name == "order.not_kept"] == ["no_consent"]


async def test_a_function_of_the_shop_may_know_it(world: Worlds) -> None:
    """From a customer's account, say; one that fails promises nothing."""

    async def agreed(arrival: Arrival) -> bool:
        if arrival.snapshot.json()["cart"] == "broken":
            raise RuntimeError("no accounts")
        return True

    shop = await outage(world, consent=agreed)
    assert (await submit(shop)).status_code == 202
    assert (await submit(shop, key="k2", cart="broken")).status_code == 503


async def test_without_a_source_the_button_is_the_consent_to_the_rules_terms(world: Worlds) -> None:
    """It is on record all the same."""
    shop = await outage(world)
    await submit(shop)
    consent = (await only(shop)).consent
    assert consent is not None
    assert (consent.terms, consent.ceiling_minor, consent.until - consent.at) == ("2026-11", 1000, 86_400.0)


async def test_a_live_charge_needs_no_consent_and_leaves_none(world: Worlds) -> None:
    """The shopper is there; the charge is not one without them."""
    shop = await outage(world, consent=json_field("agrees_to_wait"))
    shop.gateway.will(Does.CHARGE)
    assert (await submit(shop)).status_code == 201
    assert (await only(shop)).consent is None
    assert [payment.charge.off_session for payment in shop.gateway.standing] == [False]


async def test_after_the_end_of_the_consent_nothing_is_sent_and_the_shopper_is_asked(world: Worlds) -> None:
    """The gateway came back too late: held for the shopper, not charged, and told so."""
    shop = await outage(world, consent_seconds=600.0)
    kept = await submit(shop)
    charges = shop.gateway.count("charge")
    await recovered(shop, after_seconds=601.0)
    order = await only(shop)
    assert (order.state, order.waiting_for, order.why) == (State.HELD, WaitingFor.SHOPPER, "consent_ended")
    assert shop.gateway.count("charge") == charges
    told = (await shop.client.get(kept.json()["status_url"], headers={"accept": "application/json"})).json()
    assert (told["situation"], told["money"]) == ("shopper_asked", "not_charged")


async def test_an_order_whose_shopper_does_not_come_back_ends_uncharged(world: Worlds) -> None:
    """A day after the question, and told."""
    shop = await outage(world, consent_seconds=600.0)
    kept = await submit(shop)
    await recovered(shop, after_seconds=601.0)
    await recovered(shop, after_seconds=86_399.0)
    assert (await only(shop)).state is State.HELD
    await recovered(shop, after_seconds=2.0)
    told = (await shop.client.get(kept.json()["status_url"], headers={"accept": "application/json"})).json()
    assert (told["situation"], told["money"], shop.gateway.standing) == ("gave_up", "not_charged", [])


async def test_a_question_to_the_shopper_can_be_answered_by_cancelling(world: Worlds) -> None:
    """At once, since nobody has the order in hand."""
    shop = await outage(world, consent_seconds=600.0)
    kept = await submit(shop)
    await recovered(shop, after_seconds=601.0)
    told = await shop.client.post(f"{kept.json()['status_url']}/cancel", headers={"accept": "application/json"})
    assert (told.json()["situation"], told.json()["money"]) == ("cancelled", "not_charged")


async def test_the_consent_that_ends_while_later_runs_stops_the_charge_too(world: Worlds) -> None:
    """Looked at right before the send, not only when the order's turn came."""

    async def slow(op: Any) -> dict[str, str]:
        shop.clock.advance(601.0)
        return await place(op)

    shop = await outage(world, consent_seconds=600.0, later=slow)
    await submit(shop)
    charges = shop.gateway.count("charge")
    await recovered(shop, after_seconds=10.0)
    order = await only(shop)
    assert (order.state, order.waiting_for, order.why) == (State.HELD, WaitingFor.SHOPPER, "consent_ended")
    assert shop.gateway.count("charge") == charges


async def test_a_changed_basket_brings_a_consent_of_its_own(world: Worlds) -> None:
    """The ceiling is the amount of the basket that waits; a changed one without a yes does not take its place."""
    shop = await outage(world, key=json_field("cart"), consent=json_field("agrees_to_wait"))
    await submit(shop, agrees_to_wait=True)
    assert (await submit(shop, amount=1500, agrees_to_wait=False)).json()["situation"] == "kept"
    assert (await submit(shop, amount=1200, agrees_to_wait=True)).json()["situation"] == "replaced"
    order = await only(shop)
    assert order.consent is not None and order.consent.ceiling_minor == 1200
    assert [entry.detail["why"] for entry in order.history if entry.event == "order.queued"][1:] == ["replaced"]
    await recovered(shop)
    assert [payment.charge.amount_minor for payment in shop.gateway.standing] == [1200]


async def test_a_silent_charge_is_not_sent_again_after_the_consent_has_ended(world: Worlds) -> None:
    """The same key again could charge only now; it is looked up instead, and given up with a person's eyes on it."""
    shop = await outage(world, consent_seconds=60.0)
    shop.gateway.will(Does.UNKNOWN)
    await submit(shop)
    charges = shop.gateway.count("charge")
    await recovered(shop, after_seconds=61.0)
    assert shop.gateway.count("charge") == charges
    assert shop.gateway.count("find") >= 2


async def test_a_reservation_is_captured_and_never_charged_anew(world: Worlds) -> None:
    """Reserved with the shopper there, the order failed after it; `later` takes what is reserved, consent or not."""

    async def fails(request: Request) -> Response:
        await pay(request)
        return Response("the shop's own database is down", status_code=500)

    async def capture(op: Any) -> dict[str, str]:
        reserved = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
        taken = await op.capture() if not reserved.captured else reserved
        return {"paid": taken.payment_id}

    shop = await world(fails, keeping(later=capture, consent=json_field("agrees_to_wait")))
    told = await submit(shop, capture=False)
    assert (told.json()["situation"], told.json()["money"]) == ("reserved_unfinished", "charged")
    await recovered(shop, after_seconds=3_600.0)
    order = await only(shop)
    assert (order.state, order.captured_minor) == (State.FINISHED, 1000)
    assert (shop.gateway.count("charge"), shop.gateway.count("capture")) == (1, 1)
