"""`mode="watch"`: what the guard would have done is counted, each kind under its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
from shopworld import KEYS, SECRET, SHOP, World, Worlds, rule
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from watching import findings, paid, settled, watched

from cxguard.asgi import GuardMiddleware
from cxguard.core.outcomes import Declined
from cxguard.core.reading import Reading
from cxguard.engine.handle import current_operation
from cxguard.engine.observing import LIVES_MAX, MEANINGS, READINGS, Finding
from cxguard.errors import PaymentDeclined
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule, cookie, form_field, has_status, header, json_field, per_purchase, redirects_to, scope_session
from cxguard.stores.base import Query

PAN = "4242424242424242"

Submits = Callable[[World], Awaitable[Any]]


async def twice(world: World) -> None:
    await world.pay()
    await world.pay()


async def two_carts_of_one_key(world: World) -> None:
    await world.pay(cart="c1")
    await world.pay(cart="c2")


async def one_cart_two_keys(world: World) -> None:
    await world.pay(key="k1")
    await world.pay(key="k2")


async def two_owners_one_key(world: World) -> None:
    await world.pay(owner="ann")
    await world.pay(owner="bob")


async def no_key(world: World) -> None:
    await world.pay(key=None)


async def bad_key(world: World) -> None:
    await world.pay(key="a b")


async def no_owner(world: World) -> None:
    await world.client.post("/pay", json={"amount": 1, "currency": "EUR"}, headers={"idempotency-key": "k"})


async def no_currency(world: World) -> None:
    await world.client.post("/pay", json={"amount": 1}, headers={"idempotency-key": "k", "x-user": "ann"})


async def large_body(world: World) -> None:
    await world.client.post("/pay", json={"x": "y" * 70_000}, headers={"idempotency-key": "k", "x-user": "ann"})


async def card(world: World) -> None:
    body = {"amount": 1, "currency": "EUR", "card_number": PAN}
    await world.client.post("/pay", json=body, headers={"idempotency-key": "k", "x-user": "ann"})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("submits", "counted"),
    [
        (twice, {"duplicates": 1, "duplicates.succeeded_again": 1}),
        (two_carts_of_one_key, {"mismatches": 1}),
        (one_cart_two_keys, {"purchases_again": 1, "purchases_again.succeeded_again": 1}),
        (two_owners_one_key, {"owners.unstable": 1}),
        (no_key, {"keys.missing": 1}),
        (bad_key, {"keys.malformed": 1}),
        (no_owner, {"owners.missing": 1}),
        (no_currency, {"refused": 1}),
        (large_body, {"bodies.too_large": 1}),
        (card, {"bodies.with_card": 1}),
    ],
)
async def test_what_the_guard_would_have_done_is_counted(world: Worlds, submits: Submits, counted: Mapping[str, int]) -> None:
    """Each kind of request that the guard would treat otherwise than the shop has a figure of its own."""
    with_guard = await watched(world, paid, rule(charged_by="shop", purchase=(json_field("cart"),)))
    await submits(with_guard)
    found = dict(await findings(with_guard))
    requests = found.pop("requests")
    assert found.pop("readings.succeeded") == requests
    assert found == counted


@pytest.mark.asyncio
async def test_a_card_number_leaves_no_trace(world: Worlds) -> None:
    """What is kept of a watched request holds none of its content."""
    with_guard = await watched(world)
    await card(with_guard)
    await settled(with_guard)
    page = await with_guard.store.search(Query(namespace="shop:watch"))
    assert len(page.operations) == 1
    assert not any(secret in repr(page) for secret in (PAN, "ann", "k1"))


@pytest.mark.asyncio
async def test_processes_see_each_others_submits(world: Worlds) -> None:
    """A repeat that arrives at another process of the shop is a repeat."""
    one = await watched(world)
    await one.pay()
    await settled(one)
    async with Guard(one.store, rules=one.guard.rules, shop=SHOP, mode="watch", secret=SECRET, keys=KEYS, clock=one.clock) as guard:
        app = GuardMiddleware(Starlette(routes=[Route("/pay", paid, methods=["POST"])]), guard=guard)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
            await replace(one, client=client).pay()
        await guard.finish_runs()
    assert (await findings(one))["duplicates"] == 1


def failing(*statuses: int) -> Any:
    """A handler that answers these statuses in turn."""
    left = list(statuses)

    async def handler(request: Request) -> Response:
        await request.body()
        status = left.pop(0)
        if status == 0:
            raise ZeroDivisionError
        return JSONResponse({}, status_code=status)

    return handler


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("statuses", "counted"),
    [
        ((201,), {"readings.succeeded": 1}),
        ((402,), {"readings.declined": 1}),
        ((422,), {"readings.rejected": 1}),
        ((500,), {"readings.failed": 1, "lies.failed_while_unknown": 1}),
        ((0,), {"readings.failed": 1, "lies.failed_while_unknown": 1}),
        ((422, 201), {"readings.rejected": 1, "readings.succeeded": 1}),
        ((201, 402), {"readings.succeeded": 1, "readings.declined": 1, "duplicates": 1, "lies.not_paid_after_paid": 1}),
        (
            (201, 500),
            {
                **{"readings.succeeded": 1, "readings.failed": 1, "duplicates": 1},
                **{"lies.not_paid_after_paid": 1, "lies.failed_while_unknown": 1},
            },
        ),
        (
            (500, 201),
            {
                **{"readings.failed": 1, "lies.failed_while_unknown": 1, "readings.succeeded": 1},
                **{"duplicates": 1, "duplicates.succeeded_again": 1},
            },
        ),
        ((402, 402), {"readings.declined": 2, "duplicates": 1}),
    ],
)
async def test_answers_are_read_and_lies_are_found(world: Worlds, statuses: tuple[int, ...], counted: Mapping[str, int]) -> None:
    """An answer counts by its reading; "not paid" after "paid", and a failure over an unknown charge, are lies."""
    with_guard = await watched(world, failing(*statuses))
    for _ in statuses:
        await with_guard.pay()
    found = dict(await findings(with_guard))
    assert found.pop("requests") == len(statuses)
    assert found == counted


@pytest.mark.asyncio
@pytest.mark.parametrize("declines", [1, 3])
async def test_a_second_try_after_a_decline_is_no_duplicate(world: Worlds, declines: int) -> None:
    """Under a key that names the basket, another card after a decline is a new try; the same again after it is not."""
    rules = (rule(key=json_field("cart"), charged_by="shop", double_click_seconds=1.0),)
    with_guard = await watched(world, failing(*[402] * declines, 201, 201), *rules)
    for _ in range(declines + 2):
        await with_guard.pay(key=None)
        await settled(with_guard)
        with_guard.clock.advance(5)
    found = await findings(with_guard)
    assert found["duplicates"] == 1
    assert found["duplicates.succeeded_again"] == 1


@pytest.mark.asyncio
async def test_who_tries_one_basket_for_ever_leaves_so_many_records_at_most(world: Worlds) -> None:
    """Somebody who tries stolen cards: the first tries are told apart, and no more is kept of the others."""
    tries = LIVES_MAX + 4
    rules = (rule(key=json_field("cart"), charged_by="shop", double_click_seconds=1.0),)
    with_guard = await watched(world, failing(*[402] * tries), *rules)
    for _ in range(tries):
        await with_guard.pay(key=None)
        await settled(with_guard)
        with_guard.clock.advance(5)
    assert (await findings(with_guard))["readings.declined"] == tries
    assert len((await with_guard.store.search(Query(namespace="shop:watch", limit=100))).operations) == LIVES_MAX


@pytest.mark.asyncio
async def test_the_same_basket_may_be_bought_again_after_the_window(world: Worlds) -> None:
    """What the guard would let through is not counted against the shop."""
    with_guard = await watched(world, paid, rule(charged_by="shop", purchase=(json_field("cart"),)))
    await with_guard.pay(key="k1")
    await settled(with_guard)
    with_guard.clock.advance(1_000)
    await with_guard.pay(key="k2")
    assert "purchases_again" not in await findings(with_guard)


@pytest.mark.asyncio
async def test_a_basket_that_costs_what_it_did_again_is_the_one_that_was_paid(world: Worlds) -> None:
    """Changed under a second key, and changed back under a third: the guard would show the first order."""
    with_guard = await watched(world, paid, rule(charged_by="shop", purchase=(json_field("cart"),)))
    for key, amount in (("k1", 1000), ("k2", 700), ("k3", 1000)):
        await with_guard.pay(key=key, amount=amount)
        await settled(with_guard)
    found = await findings(with_guard)
    assert (found["purchases_again"], found["purchases_again.succeeded_again"]) == (1, 1)


@pytest.mark.asyncio
async def test_without_a_key_only_a_second_press_counts(world: Worlds) -> None:
    """`per_purchase`: a submit some time later may be a new purchase, whose confirmation page nobody watched."""
    key = per_purchase(done="GET /thanks")
    with_guard = await watched(world, paid, rule(key=key, charged_by="shop", reads={Reading.SUCCEEDED: has_status(201)}))
    for seconds in (0, 1, 60):
        with_guard.clock.advance(seconds)
        await with_guard.pay(key=None)
        await settled(with_guard)
    assert (await findings(with_guard))["duplicates"] == 1


@pytest.mark.asyncio
async def test_an_answer_that_makes_another_owner_is_found(world: Worlds) -> None:
    """A shop that gives the visitor a new id while paying would get a second order from the same shopper."""

    async def handler(request: Request) -> Response:
        await request.body()
        answer = JSONResponse({})
        answer.set_cookie("visitor", request.query_params["becomes"])
        return answer

    with_guard = await watched(world, handler, rule(owner=cookie("visitor"), charged_by="shop"))
    for key, becomes in (("k1", "v1"), ("k2", "v2")):
        headers = {"idempotency-key": key, "cookie": "other=1; visitor=v1"}
        await with_guard.client.post(f"/pay?becomes={becomes}", json={"amount": 1, "currency": "EUR"}, headers=headers)
    assert (await findings(with_guard))["owners.unstable"] == 1


@pytest.mark.asyncio
async def test_a_session_written_anew_with_the_same_id_is_stable(world: Worlds) -> None:
    """Inside a session middleware, a changed session with the same visitor id is the same owner; another id is not."""

    async def handler(request: Request) -> Response:
        await request.body()
        request.session["visitor_id"] = request.query_params["becomes"]
        request.session["visits"] = request.session.get("visits", 0) + 1
        return JSONResponse({})

    unstarted = Starlette(routes=[Route("/pay", handler, methods=["POST"])])
    with_guard = await watched(world, handler, rule(owner=scope_session("visitor_id"), charged_by="shop"), app=unstarted)
    outer = SessionMiddleware(with_guard.app, secret_key="s")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="https://shop.example") as client:
        for number, becomes in enumerate(("v1", "v1", "v2")):
            await client.post(f"/pay?becomes={becomes}", headers={"idempotency-key": f"k{number}"}, json={"amount": 1, "currency": "EUR"})
    found = await findings(with_guard)
    assert found["owners.missing"] == 1  # the very first visit
    assert found["owners.unstable"] == 1


@pytest.mark.asyncio
async def test_a_body_that_the_app_left_unread_is_not_judged(world: Worlds) -> None:
    """An app that answers before it has read the body leaves nothing to judge, and no false alarm."""

    async def early(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("closed", 503)(scope, receive, send)

    with_guard = await watched(world, app=early)
    await with_guard.pay()
    assert await findings(with_guard) == {"requests": 1, "readings.failed": 1, "bodies.unread": 1}


@pytest.mark.asyncio
async def test_a_rule_of_its_own_reads_the_answer(world: Worlds) -> None:
    """`reads=` decides in watch mode as it will later: here a redirect is success, and a 200 is not."""

    async def handler(request: Request) -> Response:
        form = await request.form()
        return RedirectResponse("/thank-you", 303) if form["basket"] == "b1" else PlainTextResponse("No payment was taken.")

    reads = {Reading.SUCCEEDED: redirects_to("/thank-you*")}
    own = Rule("POST /pay", owner=header("x-user"), key=form_field("basket"), charged_by="shop", reads=reads)
    with_guard = await watched(world, handler, own)
    for basket in ("b1", "b2"):
        await with_guard.client.post("/pay", data={"basket": basket}, headers={"x-user": "ann"})
    found = await findings(with_guard)
    assert (found["readings.succeeded"], found["readings.failed"]) == (1, 1)


async def sent_on(request: Request) -> Response:
    """A form's handler: it charges with the guard, and redirects, however it went. Without the slash, its router sends it on."""
    form = await request.form()
    if form["basket"] == "tok_left":
        await current_operation().charge(Charge(1000, "EUR", source="tok_declined"))
    if form["basket"] != "empty":
        with suppress(PaymentDeclined):
            await current_operation().charge(Charge(1000, "EUR", source=str(form["basket"])))
    return RedirectResponse("/pay/" if form["basket"] == "empty" else "/thanks", 303)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("basket", "read"), [("tok_ok", "succeeded"), ("tok_declined", "declined"), ("tok_left", "declined"), ("empty", "rejected")]
)
async def test_a_redirect_is_read_as_it_will_be(world: Worlds, basket: str, read: str) -> None:
    """Where the guard charges, its charge says how it went; it was counted as failed, and a paid one as a shopper who was lied to."""
    own = Rule("POST /pay", owner=header("x-user"), key=header("idempotency-key"))
    with_guard = await watched(world, sent_on, own)
    with_guard.gateway.will_say("charge", [Declined()] if read == "declined" else [])
    with suppress(PaymentDeclined):
        await with_guard.client.post("/pay", data={"basket": basket}, headers={"x-user": "ann", "idempotency-key": "k"})
    assert await findings(with_guard) == {"requests": 1, f"readings.{read}": 1}


@pytest.mark.asyncio
async def test_an_answer_over_the_limit_is_counted(world: Worlds) -> None:
    """An answer that the guard could not keep is counted, and read by its status."""

    async def handler(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("x" * 3_000)

    with_guard = await watched(world, handler, rule(charged_by="shop", answer_bytes_max=1_024))
    await with_guard.pay()
    found = await findings(with_guard)
    assert (found["answers.too_large"], found["readings.succeeded"]) == (1, 1)


@pytest.mark.asyncio
async def test_watching_opens_no_order(world: Worlds) -> None:
    """Nothing of what is observed stands in the shop's own namespace: no desk, queue or tally shows it."""
    with_guard = await watched(world, failing(500))
    await with_guard.pay()
    await settled(with_guard)
    assert (await with_guard.store.tally("shop")).operations == {}


@pytest.mark.asyncio
async def test_outside_a_rule_nothing_is_watched(world: Worlds) -> None:
    """Other paths are not counted."""
    with_guard = await watched(world)
    await with_guard.client.get("/elsewhere")
    assert await findings(with_guard) == {}


def test_every_finding_has_a_meaning() -> None:
    """The report says in words what each figure is, and each reading has one."""
    assert set(MEANINGS) == set(Finding)
    assert set(READINGS) == set(Reading)
