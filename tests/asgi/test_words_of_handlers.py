"""Answers that say something else than what became of the money: before it moved, over errors, about another basket."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from shopworld import World, Worlds, charging_handler, rule
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from cxguard.core.money import MoneyState
from cxguard.core.outcomes import Charged, Outcome
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, form_field, graphql_variable, has_status, header, json_field, json_path
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does

pytestmark = pytest.mark.asyncio
FIVE = Charge(500, "EUR", source="tok_ok", order_id="c1")


async def test_a_handler_that_says_thank_you_and_charges_afterwards_is_corrected(world: Worlds) -> None:
    """Its "paid" waits for the charge, which the issuer declines."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def charge_later(op: Any) -> None:
        began.set()
        await go_on.wait()
        await op.charge(FIVE)

    async def handler(request: Request) -> Response:
        return JSONResponse({"paid": True}, status_code=201, background=BackgroundTask(charge_later, current_operation()))

    shop = await world(handler, rule(settle_seconds=0.0))
    shop.gateway.will(Does.DECLINE)
    first = asyncio.create_task(shop.pay(amount=500))
    await began.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    go_on.set()
    answer = await first
    assert (answer.status_code, answer.json()["money"]) == (402, "not_charged")


@pytest.mark.parametrize(("does", "status", "charged"), [(Does.CHARGE, 201, 1), (Does.DECLINE, 402, 0)])
async def test_a_charge_that_is_itself_the_background_task_is_awaited(world: Worlds, does: Does, status: int, charged: int) -> None:
    """Starlette runs in a thread what it does not know as async: nothing would be sent, and each shopper be told of an outage."""

    async def handler(request: Request) -> Response:
        return JSONResponse({"paid": True}, status_code=201, background=BackgroundTask(current_operation().charge, FIVE))

    shop = await world(handler)
    shop.gateway.will(does)
    assert ((await shop.pay(amount=500)).status_code, len(shop.gateway.standing)) == (status, charged)


async def test_an_error_that_calls_itself_an_event_stream_is_corrected_like_any_other(world: Worlds) -> None:
    """Live, "declined" would have gone out over a charge."""

    async def handler(request: Request) -> Response:
        await current_operation().charge(FIVE)
        return Response("data: declined\n\n", status_code=402, media_type="text/event-stream")

    shop = await world(handler)
    answer = await shop.pay(amount=500)
    assert (answer.status_code, answer.json()["money"]) == (202, "charged")


async def test_one_basket_sent_as_plain_text_from_two_tabs_is_charged_once(world: Worlds) -> None:
    """`fetch` without a content type says that its JSON is text, and the handler reads it all the same."""
    shop = await world(charging_handler, rule(purchase=(json_field("cart"),), amount_minor=None, currency=None))
    body = json.dumps({"amount": 500, "currency": "EUR", "cart": "c1"})
    for key in ("one", "two"):
        told = {"x-user": "ann", "idempotency-key": key, "content-type": "text/plain;charset=UTF-8"}
        await shop.client.post("/pay", content=body, headers=told)
    assert len(shop.gateway.standing) == 1


async def test_one_basket_sent_as_json_and_then_as_a_form_is_charged_once(world: Worlds) -> None:
    """A page whose script gave up submits its plain form: another encoding and no key, and the same basket."""

    async def handler(request: Request) -> Response:
        await current_operation().charge(FIVE)
        return JSONResponse({"paid": True}, status_code=201)

    key = header("Idempotency-Key") | json_field("cart") | form_field("cart")
    reads = {Reading.SUCCEEDED: has_status(201)}
    shop = await world(handler, rule(key=key, amount_minor=None, currency=None, reads=reads))
    await shop.pay(key="one", amount=500)
    again = await shop.client.post("/pay", data={"cart": "c1"}, headers={"x-user": "ann", "accept": "application/json"})
    assert (again.json()["situation"], len(shop.gateway.standing)) == ("duplicate", 1)


async def test_a_basket_that_grew_after_it_was_paid_is_not_told_the_first_answer(world: Worlds) -> None:
    """Under the basket's own key "paid" would pass for what was added, too. Confirmed, it is bought."""
    shop = await world(charging_handler, rule(key=json_field("cart")))
    first = await shop.pay(key=None, amount=500)
    grown = await shop.pay(key=None, amount=800)
    assert (first.status_code, grown.json()["situation"], len(shop.gateway.standing)) == (201, "duplicate", 1)
    bought = await shop.pay(key=None, amount=800, **{"cxguard-confirm-duplicate": grown.json()["reference"]})
    assert (bought.status_code, len(shop.gateway.standing)) == (201, 2)


async def test_a_retry_that_is_refused_unread_denies_no_charge_and_gives_up_no_key(world: Worlds) -> None:
    """The answer to the first press was lost, and the session ended: a page that takes a new key now would pay twice."""
    shop = await world()
    await shop.pay()
    order = {"amount": 1000, "currency": "EUR", "cart": "c1"}
    refused = await shop.client.post("/pay", json=order, headers={"idempotency-key": "k1"})
    said = refused.json()
    assert (refused.status_code, said["money"], said["safe_to_retry"], said["order_saved"]) == (401, "unknown", False, False)


async def test_a_page_that_the_server_would_send_by_its_path_is_seen(world: Worlds, tmp_path: Path) -> None:
    """With the server's shortcut for files the end of the answer went by unseen, and a paid order was left to a person."""
    page = tmp_path / "thanks.html"
    page.write_text("<p>Thank you</p>")

    async def handler(request: Request) -> Response:
        await current_operation().charge(FIVE)
        return FileResponse(page)

    async def offering(scope: Any, receive: Any, send: Any) -> None:
        await shop.app({**scope, "extensions": {"http.response.pathsend": {}}}, receive, send)

    shop = await world(handler)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(offering), base_url="http://shop.example") as client:
        told = {"x-user": "ann", "idempotency-key": "k1"}
        answer = await client.post("/pay", json={"amount": 500, "currency": "EUR"}, headers=told)
    assert (answer.status_code, answer.text) == (200, "<p>Thank you</p>")


@pytest.mark.parametrize("accepted", ["gzip, deflate, br, zstd", "br;q=1.0, *;q=0.1", "BR"])
async def test_decline_in_a_compression_of_its_own_is_no_sale(world: Worlds, accepted: str) -> None:
    """Browsers accept `br`, and shops answer so: what cannot be unpacked cannot be read, and its status says 200."""

    async def handler(request: Request) -> Response:
        asked = request.headers["accept-encoding"].lower()
        if any(coding in asked for coding in ("br", "zstd", "*")):
            return Response(b"\x8b\x02\x80not for us\x03", headers={"content-encoding": "br"})
        return JSONResponse({"error": "card declined"})

    shop = await world(handler, rule(charged_by="shop", reads={Reading.DECLINED: json_path("error")}))
    answer = await shop.pay(**{"accept-encoding": accepted})
    (order,) = (await shop.store.search(Query(namespace="shop"))).operations
    assert (answer.json(), order.money) == ({"error": "card declined"}, MoneyState.DECLINED)


@pytest.mark.parametrize(("does", "levels"), [(Does.DECLINE, ["INFO"]), (Does.NOT_CHARGED, ["WARNING"])])
async def test_a_declined_card_is_no_warning_in_the_log(
    world: Worlds, caplog: pytest.LogCaptureFixture, does: Does, levels: list[str]
) -> None:
    """It is what cards do all day; what a broken gateway does is worth a line."""
    shop = await world(charging_handler, rule())
    shop.gateway.will(*[does] * 3)
    with caplog.at_level("INFO", logger="cxguard.exchange"):
        await shop.pay()
    assert [record.levelname for record in caplog.records if "handler.raised" in record.getMessage()] == levels


async def test_a_replay_can_be_read_by_a_client_that_unpacks_nothing(world: Worlds) -> None:
    """The first press came from a browser, the second one by a proxy or another program: the kept bytes must fit both."""

    async def handler(request: Request) -> Response:
        packed = "gzip" in request.headers.get("accept-encoding", "")
        body, headers = (gzip.compress(b"paid"), {"content-encoding": "gzip"}) if packed else (b"paid", {})
        return Response(body, 201, headers)

    shop = await world(handler, rule(charged_by="shop"))
    first = await shop.pay(**{"accept-encoding": "gzip"})
    again = await shop.pay(**{"accept-encoding": "identity"})
    assert (first.content, again.content, again.headers.get("content-encoding")) == (b"paid", b"paid", None)


# --- GraphQL tells of a failure with status 200


async def mutating(world: Worlds, answer: Any, *, charges: bool = False, **changes: Any) -> World:
    """A shop whose one mutation answers *answer*."""

    async def endpoint(request: Request) -> Response:
        if charges:
            await current_operation().charge(FIVE)
        return JSONResponse(answer)

    pay = Rule("POST /graphql", owner=header("x-user"), key=graphql_variable("cart"), graphql_mutation="pay", wait_seconds=0.0, **changes)
    return await world(None, pay, app=Starlette(routes=[Route("/graphql", endpoint, methods=["POST"])]))


async def mutate(shop: World) -> Any:
    asked = {"query": "mutation { pay { id } }", "variables": {"cart": "c1"}}
    return (await shop.client.post("/graphql", json=asked, headers={"x-user": "ann"})).json()


FAILED = {"data": {"pay": None}, "errors": [{"message": "Something went wrong"}]}


async def test_graphql_errors_over_a_charge_are_not_let_through(world: Worlds) -> None:
    """The shop failed after the charge: its shopper is told that it is paid."""
    shop = await mutating(world, FAILED, charges=True)
    told = (await mutate(shop))["errors"][0]["extensions"]
    assert (told["money"], told["situation"]) == ("charged", "paid_unfinished")


async def test_graphql_errors_of_a_shop_that_charges_are_no_sale(world: Worlds) -> None:
    """Nobody knows whether it charged: the next press is not told that it was paid."""
    shop = await mutating(world, FAILED, charged_by="shop")
    told = [(await mutate(shop))["errors"][0]["extensions"]["money"] for _ in range(2)]
    assert told == ["unknown", "unknown"]


async def test_graphql_errors_without_data_are_asked_about_where_somebody_can_be(world: Worlds) -> None:
    """They should come before anything ran; some servers answer so for whatever was raised, after the charge, too."""

    async def resolve(op: Any) -> Outcome:
        return Charged(500, "EUR", payment_id="pay_1")

    shop = await mutating(world, {"errors": FAILED["errors"]}, charged_by="shop", resolve=resolve, amount_minor=None)
    assert (await mutate(shop))["errors"][0]["extensions"]["money"] == "charged"
