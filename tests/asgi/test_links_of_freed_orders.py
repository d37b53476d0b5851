"""An order that came to nothing frees its key, and its link still tells everybody who was given one how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.engine.cold import open_member
from cxguard.engine.ending import RELEASED_SECONDS
from cxguard.rules import json_field
from cxguard.stores.base import Query
from cxguard.testing import Fault

pytestmark = pytest.mark.asyncio
JSON = {"accept": "application/json"}


class Counter:
    """A handler that turns its first request away as soon as it is told to, before anything was charged."""

    def __init__(self) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def pay(self, request: Request) -> Response:
        if self.go_on.is_set():
            return await charging_handler(request)
        self.began.set()
        await self.go_on.wait()
        return JSONResponse({"error": "out of stock"}, status_code=422)


async def looked_up(shop: World, answer: httpx.Response) -> dict[str, str]:
    told: dict[str, str] = (await shop.client.get(answer.json()["status_url"], headers=JSON)).json()
    return told


async def test_who_waited_for_an_order_that_is_turned_away_reads_that_nothing_was_charged(world: Worlds) -> None:
    """The second click hears "in flight", and follows the link that it was given."""
    handler = Counter()
    shop = await world(handler.pay)
    first = asyncio.create_task(shop.pay())
    await handler.began.wait()
    second = await shop.pay()
    assert second.json()["situation"] == "in_flight"
    handler.go_on.set()
    assert (await first).status_code == 422
    told = await looked_up(shop, second)
    assert (told["situation"], told["money"]) == ("cancelled", "not_charged")


async def test_order_that_was_turned_away_before_anything_was_sent_is_known_for_a_day(world: Worlds) -> None:
    """Only its link may have been seen: whoever fills in a form ten times leaves nothing for long."""

    async def turned_away(request: Request) -> Response:
        return JSONResponse({"error": "out of stock"}, status_code=422)

    shop = await world(turned_away)
    await shop.pay()
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert order.keep_until == shop.clock.now() + RELEASED_SECONDS


async def test_a_second_tabs_link_to_an_order_that_is_turned_away_says_so(world: Worlds) -> None:
    """It was told "this looks like the order that is being paid", with that order's link."""
    handler = Counter()
    shop = await world(handler.pay, rule(purchase=(json_field("cart"),)))
    first = asyncio.create_task(shop.pay(key="a"))
    await handler.began.wait()
    second = await shop.pay(key="b")
    assert second.json()["situation"] == "duplicate_running"
    handler.go_on.set()
    await first
    told = await looked_up(shop, second)
    assert (told["situation"], told["money"]) == ("cancelled", "not_charged")
    assert (await shop.pay(key="b")).status_code == 201, "and the purchase is free"


async def test_who_was_answered_at_the_deadline_reads_how_the_order_ended(world: Worlds) -> None:
    """The run goes on after the answer, and comes to nothing. To open the order takes the store all the time there is."""
    answered = asyncio.Event()

    async def slow(request: Request) -> Response:
        await answered.wait()
        return JSONResponse({"error": "out of stock"}, status_code=422)

    async def server(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body":
                answered.set()

        await shop.app(scope, receive, sending)

    shop = await world(slow, rule(deadline_seconds=1.0), faulty=True)
    shop.store.decide = lambda verb: shop.clock.advance(1.0) if verb == "open" else None  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://shop.example") as client:
        answer = await replace(shop, client=client).pay()
    assert answer.json()["situation"] == "in_flight"
    told = await looked_up(shop, answer)
    assert (told["situation"], told["money"]) == ("cancelled", "not_charged")


@pytest.mark.parametrize("first", [Fault.ANSWER_LOST, Fault.NOT_DONE])
async def test_link_of_an_order_whose_end_nobody_heard_of_leads_to_it(world: Worlds, first: Fault) -> None:
    """The store does not say whether the end was written: whichever it was, the order is found, and its end told."""

    async def turned_away(request: Request) -> Response:
        return JSONResponse({"error": "out of stock"}, status_code=422)

    shop = await world(turned_away, faulty=True)
    shop.store.plan("save", first)  # type: ignore[attr-defined]
    shop.store.plan("save", Fault.NOT_DONE)  # type: ignore[attr-defined]
    answer = await shop.pay()
    assert answer.json()["money"] in ("unknown", "not_charged")
    shop.clock.advance(120.0)  # its lease lapses
    await shop.rest()
    told = await looked_up(shop, answer)
    assert (told["situation"], told["money"]) == ("cancelled", "not_charged")


async def test_form_that_was_turned_away_and_put_right_is_paid_under_the_same_key(world: Worlds) -> None:
    """Nothing was charged under it, so it is no other request in the place of the first: it is the first that counts."""
    handler = Counter()
    handler.go_on.set()
    shop = await world(handler.pay)
    handler.go_on.clear()
    first = asyncio.create_task(shop.pay(amount=999))
    await handler.began.wait()
    handler.go_on.set()
    assert (await first).status_code == 422
    paid = await shop.pay(amount=1000)
    assert (paid.status_code, len(shop.gateway.standing)) == (201, 1)
    assert (await shop.pay(amount=1000)).content == paid.content


async def test_form_with_a_corrected_address_is_told_of_at_that_address(world: Worlds) -> None:
    """It was turned away for the address: whatever is said of the order later goes to the one that was paid with."""

    async def picky(request: Request) -> Response:
        if (await request.json())["email"] == "ann@fern":
            return JSONResponse({"error": "no such address"}, status_code=422)
        return await charging_handler(request)

    shop = await world(picky, rule(contact=json_field("email")))
    headers = {"x-user": "ann", "idempotency-key": "k1"}
    order = {"amount": 1000, "currency": "EUR", "cart": "c1"}
    hashes = []
    for email, status in (("ann@fern", 422), ("ann@fern.example", 201)):
        answer = await shop.client.post("/pay", json={**order, "email": email}, headers=headers)
        assert answer.status_code == status
        (there,) = (await shop.store.search(Query(namespace="shop"))).operations
        assert there.contact is not None
        assert open_member(shop.guard.engine.seal, there, "contact", there.contact) == email.encode()
        hashes.append(there.contact_hash)
    assert hashes[0] != hashes[1]
