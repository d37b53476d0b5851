"""A shopper may cancel at any time until the charge is sent; after that the wish is kept, the charge found out, and given back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard import AskShopper
from cxguard.core.money import Note, NoteKind
from cxguard.core.operation import Operation, State, WaitingFor
from cxguard.core.outcomes import NotCharged, Unknown
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ASYNC = {"prefer": "respond-async"}
JSON = {"accept": "application/json"}


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source="tok_ok"))
    return {"paid": payment.payment_id}


async def pay(request: Request) -> Response:
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok"))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def keeping(**changes: Any) -> Rule:
    asked = {"resume_at": "/checkout?resume={token}", "resume_token": json_field("resume")}
    return rule(**{**asked, "later": place, "terms": "2026-11", **changes})


async def outage(world: Worlds, **changes: Any) -> World:
    """A shop whose gateway takes no connection."""
    return await world(pay, keeping(**changes), gateway=FakeGateway(otherwise=Does.NOT_CHARGED))


async def submit(shop: World, **more: Any) -> httpx.Response:
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", **more}
    return await shop.client.post("/pay", json=body, headers={"x-user": "ann", "idempotency-key": "k1", **ASYNC})


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def work(shop: World, *, after_seconds: float = 60.0) -> Operation:
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(after_seconds)
    await shop.rest()
    return await only(shop)


async def cancel(shop: World, kept: httpx.Response) -> tuple[str, str]:
    told = (await shop.client.post(f"{kept.json()['status_url']}/cancel", headers=JSON)).json()
    return told["situation"], told["money"]


async def status(shop: World, kept: httpx.Response) -> tuple[str, str]:
    told = (await shop.client.get(kept.json()["status_url"], headers=JSON)).json()
    return told["situation"], told["money"]


def broken(op: Any) -> Any:
    raise RuntimeError("no prices")


@pytest.mark.parametrize(
    ("revalidate", "waiting_for"), [(broken, WaitingFor.AGENT), (lambda op: AskShopper(), WaitingFor.SHOPPER)], ids=["agent", "shopper"]
)
async def test_a_held_order_is_cancelled_at_once(world: Worlds, revalidate: Any, waiting_for: WaitingFor) -> None:
    """Surely not charged, and nobody has it in hand: whoever it waits for, it ends here."""
    shop = await outage(world, revalidate=revalidate)
    kept = await submit(shop)
    held = await work(shop)
    assert (held.state, held.waiting_for) == (State.HELD, waiting_for)
    assert await cancel(shop, kept) == ("cancelled", "not_charged")
    await work(shop, after_seconds=3_600.0)
    assert shop.gateway.standing == []


async def test_a_payment_that_waits_at_the_bank_is_stopped_there(world: Worlds) -> None:
    """The step at the bank can no longer be done: what might still complete is cancelled at the gateway first."""
    shop = await outage(world)
    kept = await submit(shop)
    shop.gateway.will(Does.NEEDS_SHOPPER)
    held = await work(shop)
    assert held.why == "needs_shopper"
    assert await cancel(shop, kept) == ("cancelled", "not_charged")
    assert shop.gateway.count("cancel") == 1
    assert [payment.state for payment in shop.gateway.payments] == ["cancelled"]


async def test_a_payment_that_is_to_be_stopped_is_not_offered_at_the_bank_any_more(world: Worlds) -> None:
    """The gateway is silent, so it is still alive there; but whoever confirmed it now would be charged, and paid back."""
    shop = await outage(world)
    kept = await submit(shop)
    shop.gateway.will(Does.NEEDS_SHOPPER)
    await work(shop)
    shop.gateway.will_say("cancel", [Unknown("no answer")])
    assert await cancel(shop, kept) == ("cancel_asked", "unknown")
    assert "resume_url" not in (await shop.client.get(kept.json()["status_url"], headers=JSON)).json()


async def test_a_step_at_the_bank_that_was_done_just_before_goes_back(world: Worlds) -> None:
    """The gateway says "charged" where it should stop: the money goes back unasked."""
    shop = await outage(world)
    kept = await submit(shop)
    shop.gateway.will(Does.NEEDS_SHOPPER)
    held = await work(shop)
    shop.gateway.confirm(held.sends[-1].key)
    await cancel(shop, kept)
    await work(shop)
    assert (await status(shop, kept), shop.gateway.standing) == (("refunded", "not_charged"), [])


async def test_a_wish_that_comes_before_the_charge_is_sent_stops_it(world: Worlds) -> None:
    """It is looked for in the very save that writes the line, so there is no moment in between."""

    async def cancelled_on_the_way(op: Any) -> dict[str, str]:
        note = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), source="status page", generation=1)
        await shop.store.note(op.id, note, namespace="shop")
        return await place(op)

    shop = await outage(world, later=cancelled_on_the_way)
    kept = await submit(shop)
    sent = shop.gateway.count("charge")
    await work(shop)
    order = await work(shop)
    assert (order.state, shop.gateway.count("charge")) == (State.CANCELLED, sent)
    assert await status(shop, kept) == ("cancelled", "not_charged")


async def test_a_wish_while_the_charge_is_under_way_is_kept_and_the_charge_goes_back(world: Worlds) -> None:
    """Told "asked", not "cancelled": first it is found out, then given back."""
    shop = await outage(world)
    kept = await submit(shop)
    shop.gateway.will(Does.HANG)
    shop.clock.advance(60.0)
    working = asyncio.create_task(shop.guard.queue().run_once())
    await shop.gateway.until_hanging()
    assert await cancel(shop, kept) == ("cancel_asked", "unknown")
    await shop.gateway.release()
    await working
    await work(shop)
    assert (await status(shop, kept), shop.gateway.standing) == (("refunded", "not_charged"), [])
    assert len(shop.gateway.payments) == 1


@pytest.mark.parametrize(("found", "situation"), [(None, "refunded"), (NotCharged("never arrived"), "cancelled")])
async def test_a_wish_over_an_unknown_payment_is_resolved_first(world: Worlds, found: Any, situation: str) -> None:
    """Charged after all: it goes back. Surely not: it ends. Never called cancelled before that is known."""
    shop = await outage(world)
    shop.gateway.will(Does.CHARGE_THEN_UNKNOWN if found is None else Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer")])
    shop.gateway.will_say("cancel", [Unknown("no answer"), *([found] if found else [])])
    kept = await submit(shop)
    assert kept.json()["money"] == "unknown"
    assert await cancel(shop, kept) == ("cancel_asked", "unknown")
    for _ in range(3):
        await work(shop)
    assert (await status(shop, kept))[0] == situation
    assert shop.gateway.standing == []
    assert shop.gateway.count("charge") == 1


async def test_an_order_that_is_placed_and_paid_is_not_cancelled_by_an_old_tab(world: Worlds) -> None:
    """It is on its way: the page does not offer it, and a late press changes nothing."""
    shop = await outage(world)
    kept = await submit(shop)
    await work(shop)
    assert await cancel(shop, kept) == ("placed", "charged")
    await work(shop)
    assert len(shop.gateway.standing) == 1


async def test_the_same_purchase_is_not_told_as_paid_while_it_goes_back(world: Worlds) -> None:
    """The wish came in time, and the refund has no answer yet: it may be back already."""
    shop = await world(pay, rule(purchase=(json_field("cart"),), client_reads_202=True))
    paid = await submit(shop)
    wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), source="status page", generation=1)
    await shop.store.note((await only(shop)).id, wish, namespace="shop")
    shop.gateway.will_say("refund", [Unknown("no answer")] * 2)
    await shop.rest()
    again = await shop.pay(key="k2")
    assert (paid.status_code, again.status_code, again.json()["money"]) == (201, 202, "unknown")


async def test_a_wish_while_the_shopper_goes_on_with_another_card_sends_that_back(world: Worlds) -> None:
    """A second tab cancels while the first pays: the charge is found out, and goes back."""
    shop = await outage(world, revalidate=lambda op: AskShopper(1200))
    kept = await submit(shop)
    await work(shop)
    page = (await shop.client.get(kept.json()["status_url"], headers=JSON)).json()
    shop.gateway.will(Does.HANG)
    paying = asyncio.create_task(submit(shop, amount=1200, resume=page["resume_url"].partition("resume=")[2]))
    await shop.gateway.until_hanging()
    assert (await cancel(shop, kept))[0] == "cancel_asked"
    await shop.gateway.release()
    await paying
    for _ in range(2):
        await work(shop)
    assert (await status(shop, kept), shop.gateway.standing) == (("refunded", "not_charged"), [])


async def test_who_cancels_while_the_bank_is_asked_is_not_sent_to_the_bank(world: Worlds) -> None:
    """The answer to the press comes after the wish: one more step there would pay for what nobody wants."""

    async def changes_their_mind(request: Request) -> Response:
        try:
            return await pay(request)
        finally:
            wish = Note("cancel:1", NoteKind.CANCEL, shop.clock.now(), source="status page", generation=1)
            await shop.guard.engine.operations.note((await only(shop)).id, wish)

    shop = await world(changes_their_mind, keeping())
    shop.gateway.will(Does.NEEDS_SHOPPER)
    told = (await submit(shop)).json()
    assert told.get("resume_url") is None, told
