"""An app below a mount: its rules, its status pages, and the kept requests that run again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, post
from litestar import Request as LitestarRequest
from litestar.middleware import DefineMiddleware
from shopworld import KEYS, SECRET, SHOP, Worlds, charging_handler, rule
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from cxguard.asgi import GuardMiddleware
from cxguard.core.operation import State
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule, header, json_field, path_field, replay
from cxguard.stores.base import Query
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio
ORDER = {"amount": 1000, "currency": "EUR", "cart": "c1"}
HEADERS = {"x-user": "ann", "idempotency-key": "k1", "prefer": "respond-async"}
SEEN = ("scheme", "path", "root_path", "server", "query_string", "headers", "method")


def mounted_rule() -> Rule:
    """The rule of the other tests, at its full path."""
    known = rule()
    return Rule(
        "POST /shop/pay",
        owner=header("x-user"),
        key=known.key,
        amount_minor=json_field("amount"),
        currency=json_field("currency"),
        later=replay,
        terms="1",
    )


async def test_a_kept_request_runs_again_as_it_came(world: Worlds) -> None:
    """Scheme, host, port and mount are those of the shopper's request: a framework's CSRF check and routing depend on them."""
    seen: list[dict[str, Any]] = []

    async def handler(request: Request) -> Response:
        seen.append({name: request.scope[name] for name in SEEN})
        return await charging_handler(request)

    shop = await world(handler, mounted_rule())
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    async with AsyncExitStack() as stack:
        transport = httpx.ASGITransport(shop.app, root_path="/shop", raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop.example:8080"))
        kept = await client.post("/shop/pay?a=%C3%BC", json=ORDER, headers=HEADERS)
        assert kept.json()["situation"] == "kept"
        page = await client.get(kept.json()["status_url"], headers={"accept": "application/json"})
        assert page.json()["situation"] == "kept"
    shop.clock.advance(60.0)
    await shop.rest()
    live, again = seen
    assert again == live
    assert len(shop.gateway.standing) == 1


async def test_a_guard_that_is_mounted_runs_its_kept_requests_itself(world: Worlds) -> None:
    """The app around it would look for the mount a second time."""
    inner = Starlette(routes=[Route("/pay", charging_handler, methods=["POST"])])
    shop = await world(charging_handler, mounted_rule(), app=inner)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    async with AsyncExitStack() as stack:
        transport = httpx.ASGITransport(Starlette(routes=[Mount("/shop", app=shop.app)]), raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop.example"))
        assert (await client.post("/shop/pay", json=ORDER, headers=HEADERS)).status_code == 202
        shop.clock.advance(60.0)
        await shop.rest()
        paid = await client.post("/shop/pay", json=ORDER, headers=HEADERS)
    assert (paid.status_code, paid.headers["idempotency-replayed"]) == (201, "true")
    assert len(shop.gateway.standing) == 1


async def test_paths_that_only_look_like_ours_are_the_apps(world: Worlds) -> None:
    """The prefix counts at the beginning of the path, below the mount."""
    shop = await world()
    for path in ("/_cxguard/other", "/a/_cxguard/orders/x", "/_cxguardian/orders/x"):
        assert (await shop.client.get(path)).text == "Not Found"


async def test_a_rule_that_is_written_like_the_apps_own_route_holds_below_a_root_path(world: Worlds) -> None:
    """The server says under which path the app is served; its routes, and so its rules, leave that out."""
    below = Rule("POST /orders/{cart}/pay", owner=header("x-user"), key=path_field("cart"))

    async def handler(request: Request) -> Response:
        await current_operation().charge(Charge(1000, "EUR", source="tok_ok", order_id="c1"))
        return Response(status_code=201)

    shop = await world(None, below, app=Starlette(routes=[Route("/orders/{cart}/pay", handler, methods=["POST"])]))
    transport = httpx.ASGITransport(shop.app, root_path="/api", raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        for path in ("/api/orders/c1/pay", "/orders/c1/pay"):  # as servers say it, with the mount or without
            assert (await client.post(path, headers=HEADERS)).status_code == 201
    assert len(shop.gateway.standing) == 1


async def test_the_page_of_an_order_is_where_its_link_says_also_for_an_app_with_mounts_of_its_own(world: Worlds) -> None:
    """A framework writes its inner mount into the scope as it routes; our pages lie where the guard stands, outside of it."""
    inner = Starlette(routes=[Route("/pay", charging_handler, methods=["POST"])])
    shop = await world(charging_handler, mounted_rule(), app=Starlette(routes=[Mount("/shop", app=inner)]))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await shop.client.post("/shop/pay", json=ORDER, headers=HEADERS)
    again = await shop.client.post("/shop/pay", json=ORDER, headers=HEADERS)
    assert kept.json()["status_url"] == again.json()["status_url"]
    page = await shop.client.get(kept.json()["status_url"], headers={"accept": "application/json"})
    assert page.json()["situation"] == "kept"


@pytest.mark.parametrize("served", ["/shop", "/shop/", ""])
async def test_a_root_path_with_a_slash_at_its_end_leads_to_the_pages_too(world: Worlds, served: str) -> None:
    """Servers put it before the path as it is, or not at all; what the browser asks for is the same."""
    shop = await world(charging_handler, mounted_rule(), app=Starlette(routes=[Route("/{rest:path}", charging_handler, methods=["POST"])]))
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    transport = httpx.ASGITransport(shop.app, root_path="/shop/", raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        link = (await client.post(f"{served}/pay", json=ORDER, headers=HEADERS)).json()["status_url"]
        assert link.startswith("/shop/_cxguard/orders/")
        page = await client.get(f"{served}{link.removeprefix('/shop')}", headers={"accept": "text/html"})
        assert f'action="{link}/cancel"' in page.text


async def test_a_guard_around_an_app_that_names_its_own_root_path_leads_to_its_pages(world: Worlds) -> None:
    """`FastAPI(root_path="/api")`: a proxy takes that off, so what the browser asks for has it, and what we get has not."""
    below = Rule("POST /pay", owner=header("x-user"), amount_minor=json_field("amount"), currency=json_field("currency"))
    api = FastAPI()
    api.root_path = "/api"  # as the argument does, of which newer versions warn
    api.add_route("/pay", charging_handler, methods=["POST"])
    shop = await world(None, replace(below, later=replay, terms="1"), app=api)
    shop.gateway.will(*[Does.NOT_CHARGED] * 3)
    told = [await shop.client.post("/pay", json=ORDER, headers=HEADERS) for _ in range(2)]
    links = {each.json()["status_url"] for each in told}
    assert len(links) == 1
    link = links.pop()
    assert link.startswith("/api/_cxguard/orders/")
    page = await shop.client.get(link.removeprefix("/api"), headers={"accept": "text/html"})
    assert f'action="{link}/cancel"' in page.text
    shop.clock.advance(60.0)
    await shop.rest()
    assert len(shop.gateway.standing) == 1


async def paid_through(app: Any, guard: Guard) -> int:
    """Pay once through an app that has the guard somewhere inside, then let its queue place what was kept. How many were charged."""
    gateway = cast(FakeGateway, guard.gateways["fake:test"])
    gateway.will(*[Does.NOT_CHARGED] * 3)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        assert (await client.post("/shop/pay", json=ORDER, headers=HEADERS)).status_code == 202
    cast(ManualClock, guard.clock).advance(60.0)
    await guard.queue().run_once()
    await guard.stop()
    return len(gateway.standing)


def guard_alone(*others: Rule) -> Guard:
    """Of a shop whose framework puts the middleware where it wants."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    known = {"shop": SHOP, "secret": SECRET, "keys": KEYS, "duties": False, "clock": clock}
    return Guard(store, rules=(mounted_rule(), *others), gateways=[FakeGateway()], **known)


async def test_two_apps_with_one_guard_each_run_their_own_kept_requests_again() -> None:
    """A shop and its API, say, mounted side by side: which of the two was served last says nothing about an order."""
    guard = guard_alone(Rule("POST /api/buy", owner=header("x-user")))
    shop = Starlette(routes=[Route("/pay", charging_handler, methods=["POST"])])
    api = Starlette(routes=[Route("/buy", charging_handler, methods=["POST"])])
    for app in (shop, api):
        app.add_middleware(GuardMiddleware, guard=guard)
    both = Starlette(routes=[Mount("/shop", app=shop), Mount("/api", app=api)])

    async def served_last(scope: Any, receive: Any, send: Any) -> None:
        await both(scope, receive, send)
        transport = httpx.ASGITransport(both)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            await client.post("/api/buy", json=ORDER, headers={**HEADERS, "idempotency-key": "k2"})

    await paid_through(served_last, guard)
    (kept,) = (await guard.store.search(Query(namespace="shop", rule="POST /shop/pay"))).operations
    assert (kept.state, kept.money) == (State.FINISHED, "charged")


async def test_a_guard_behind_routes_says_so_and_its_kept_requests_still_begin_at_the_app(caplog: pytest.LogCaptureFixture) -> None:
    """Litestar makes its middleware once for each route; our pages are no routes, so they are never reached."""
    guard = guard_alone()

    @post("/shop/pay")
    async def pay(request: LitestarRequest[Any, Any, Any]) -> dict[str, str]:
        body = await request.json()
        payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id="c1"))
        return {"paid": payment.payment_id}

    app = Litestar([pay], middleware=[DefineMiddleware(GuardMiddleware, guard=guard)], logging_config=None)  # type: ignore[arg-type]
    assert await paid_through(app, guard) == 1
    assert caplog.text.count("guard.behind_routes") == 1


async def test_a_guard_around_one_route_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette knows a middleware of a single route, too."""
    guard = guard_alone()
    app = Starlette(routes=[Route("/shop/pay", charging_handler, methods=["POST"], middleware=[Middleware(GuardMiddleware, guard=guard)])])
    assert await paid_through(app, guard) == 1
    assert caplog.text.count("guard.behind_routes") == 1
