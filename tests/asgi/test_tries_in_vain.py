"""A try by the shopper's link that charges nothing: the order had been accepted, so it waits for its shopper again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from resumeworld import NoStepAtBank, charged, keeping, only, outage, pay, recovered, status, submit, token_of
from shopworld import World, Worlds
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import State, WaitingFor
from cxguard.core.outcomes import NotCharged, Unknown
from cxguard.rules import json_field
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio


async def gone_on_in_vain(shop: World, kept: httpx.Response, **more: Any) -> tuple[str, httpx.Response]:
    """A submit by the link of the order, while the gateway takes no connection again; the link's token, and the answer."""
    shop.gateway.otherwise = Does.NOT_CHARGED
    token = await token_of(shop, kept)
    return token, await submit(shop, resume=token, **more)


@pytest.mark.parametrize("link", ["same", "fresh"])
async def test_a_try_while_the_gateway_is_down_loses_neither_the_order_nor_the_link(world: Worlds, link: str) -> None:
    """No consent to a later charge: not charged, the order still here until its day is over, and the next try pays it once."""
    shop = await outage(world, consent=json_field("agrees"))
    kept = await submit(shop, agrees=True)
    shop.gateway.will(Does.DECLINE)
    held = await recovered(shop)
    token, refused = await gone_on_in_vain(shop, kept)
    told = refused.json()
    assert (told["situation"], told["money"], told["reference"]) == ("shopper_asked", "not_charged", held.reference)
    waits = await only(shop)
    assert (waits.state, waits.waiting_for, waits.give_up_at) == (State.HELD, WaitingFor.SHOPPER, held.give_up_at)
    assert held.consent is not None
    assert waits.consent == held.consent, "what it was accepted on stays on record"
    assert (await recovered(shop)).state is State.HELD
    token = token if link == "same" else await token_of(shop, refused)
    again = await submit(shop, resume=token)  # the breaker's first probe belongs to the queue: turned away once more, nothing is lost
    assert again.json()["situation"] == "shopper_asked"
    shop.clock.advance(10.0)
    paid = await submit(shop, resume=token)
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_ok")])
    assert ((await only(shop)).reference, (await status(shop, kept))["situation"]) == (held.reference, "placed")


async def test_a_try_in_vain_is_no_consent_to_a_later_charge(world: Worlds) -> None:
    """The gateway is back, and nobody has come back: nothing is charged."""
    shop = await outage(world, consent=json_field("agrees"))
    kept = await submit(shop, agrees=True)
    shop.gateway.will(Does.DECLINE)
    await recovered(shop)
    await gone_on_in_vain(shop, kept, card="tok_new")
    waits = await recovered(shop, after_seconds=3_600.0)
    assert (waits.state, charged(shop)) == (State.HELD, [])


async def test_a_form_that_the_shop_turns_down_loses_nothing(world: Worlds) -> None:
    """The shop's own answer goes through; the order waits, and the same link goes on with it."""

    async def careful(request: Request) -> Response:
        body = await request.json()
        return await pay(request) if body.get("name") else JSONResponse({"error": "name"}, status_code=422)

    gateway = FakeGateway()
    shop = await world(careful, keeping(consent=json_field("agrees")), gateway=gateway)
    gateway.otherwise = Does.NOT_CHARGED
    kept = await submit(shop, agrees=True, name="Ann")
    gateway.will(Does.DECLINE)
    await recovered(shop)
    token = await token_of(shop, kept)
    turned_down = await submit(shop, resume=token)
    assert (turned_down.status_code, turned_down.json()) == (422, {"error": "name"})
    assert (await status(shop, kept))["situation"] == "shopper_asked"
    assert (await submit(shop, resume=token, name="Ann")).status_code == 201
    assert charged(shop) == [(1000, "tok_ok")]


async def test_an_unknown_try_that_turns_out_uncharged_waits_for_its_shopper_again(world: Worlds) -> None:
    """The answer was lost, and the gateway says later that there was no charge: the order is not let go."""
    shop = await outage(world, consent=json_field("agrees"))
    kept = await submit(shop, agrees=True)
    shop.gateway.will(Does.DECLINE)
    await recovered(shop)
    token = await token_of(shop, kept)
    shop.gateway.will(Does.UNKNOWN)
    shop.gateway.will_say("find", [Unknown("no answer in time"), NotCharged("no such charge")])
    unsure = await submit(shop, resume=token)
    assert unsure.json()["money"] == "unknown"
    assert (await submit(shop, resume=token, card="tok_other")).json()["money"] == "unknown"
    waits = await recovered(shop, after_seconds=3_600.0)
    assert (waits.state, waits.why, waits.kept, charged(shop)) == (State.HELD, "try_failed", True, [])
    paid = await submit(shop, resume=token)
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_ok")])


async def test_a_try_in_vain_after_the_bank_wanted_the_shopper_loses_nothing(world: Worlds) -> None:
    """After the bank's word was wanted: the old payment is cancelled, the new one is not sent, the order waits."""
    shop = await outage(world, gateway=NoStepAtBank(), consent=json_field("agrees"))
    kept = await submit(shop, agrees=True)
    shop.gateway.will(Does.NEEDS_SHOPPER)
    await recovered(shop)
    _, refused = await gone_on_in_vain(shop, kept, card="tok_new")
    assert (refused.json()["situation"], (await recovered(shop)).state, charged(shop)) == ("shopper_asked", State.HELD, [])
    paid = await submit(shop, card="tok_new", resume=await token_of(shop, kept))
    assert (paid.status_code, charged(shop)) == (201, [(1000, "tok_new")])
