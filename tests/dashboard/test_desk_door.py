"""The door: closed without auth, open to names only, and deaf to other sites."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from deskclient import SAME, DeskClient, who
from deskworld import desk_world
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from cxguard.clock import SystemClock
from cxguard.core.operation import State
from cxguard.dashboard import BasicAuth, dashboard, password_hash
from cxguard.dashboard.door import HEADERS, from_here
from cxguard.errors import ConfigurationError
from cxguard.guard import Guard
from cxguard.rules import Shop
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.faulty_store import Fault, FaultyStore

PAGES = ["/", "/orders", "/orders/AAAA-AAAA-AAAA", "/next", "/now.json", "/orders/AAAA-AAAA-AAAA/live.json", "/nowhere"]
POSTS = ["/search", "/orders/AAAA-AAAA-AAAA/cancel", "/orders/AAAA-AAAA-AAAA/take"]


def client_of(guard: Guard, auth: object, **headers: str) -> httpx.AsyncClient:
    app = Starlette(routes=[Mount("/ops", dashboard(guard, auth=auth))])  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example", headers=headers)


@pytest.mark.asyncio
@pytest.mark.parametrize("path", PAGES + POSTS)
async def test_closed_without_auth(path: str) -> None:
    """Without `auth` every page and every button answers 403, and the page says which line of Python opens it."""
    async with desk_world() as world, client_of(world.guard, None) as client:
        answer = await client.request("POST" if path in POSTS else "GET", f"/ops{path}", headers=SAME)
    assert answer.status_code == 403
    assert "dashboard(guard, auth=" in answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", PAGES + POSTS)
async def test_nobody_comes_in(path: str) -> None:
    """Whoever has no name gets 401, on every page and every button, and learns nothing of any order."""
    async with desk_world() as world, client_of(world.guard, who) as client:
        order = await world.put("k")
        answer = await client.request("POST" if path in POSTS else "GET", f"/ops{path}", headers=SAME)
    assert answer.status_code == 401
    assert order.reference not in answer.text


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "ann\x00", "ann\nbob"])
async def test_name_that_cannot_stand_in_a_record_is_nobody(name: str) -> None:
    """An empty, endless or unprintable name does not come in."""
    async with desk_world() as world, client_of(world.guard, lambda request: name) as client:
        assert (await client.get("/ops/")).status_code == 401


async def _async_who(request: Request) -> str:
    return "anna"


@pytest.mark.asyncio
@pytest.mark.parametrize("auth", [lambda request: "anna", _async_who])
async def test_auth_may_be_sync_or_async(auth: Callable[[Request], object]) -> None:
    """Either kind of callable opens the door."""
    async with desk_world() as world, client_of(world.guard, auth) as client:
        assert (await client.get("/ops/")).status_code == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("said", [True, 7, b"anna", {"name": "anna"}])
async def test_yes_is_no_name(said: Any) -> None:
    """Each thing that is done here stands under a name; who wrote `is_staff` reads in the server's log what to write."""
    async with desk_world() as world, client_of(world.guard, lambda request: said) as client:
        with pytest.raises(ConfigurationError, match=r"and no name: write auth=lambda request"):
            await client.get("/ops/")
    async with desk_world() as world, client_of(world.guard, lambda request: False) as client:
        assert (await client.get("/ops/")).status_code == 401


@pytest.mark.asyncio
async def test_auth_may_send_to_the_shops_own_sign_in() -> None:
    """A response that `auth` returns is sent as it is."""

    def away(request: Request) -> Response:
        return RedirectResponse("/staff/sign-in", status_code=303)

    async with desk_world() as world, client_of(world.guard, away) as client:
        answer = await client.get("/ops/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/staff/sign-in")


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [*PAGES, "/assets/desk.css"])
async def test_every_answer_carries_the_headers(desk: DeskClient, path: str) -> None:
    """No answer can be framed, sniffed, stored, or run a script from elsewhere; style and script may be kept."""
    answer = await desk.get(path)
    assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
    assert answer.headers["cache-control"].startswith("no-store" if "assets" not in path else "public")
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.asyncio
async def test_pages_have_nothing_inline(desk: DeskClient) -> None:
    """No inline script, no inline style, nothing loaded from another site: the policy never needs an exception."""
    order = await desk.world.unknown()
    for path in ("/", "/orders", f"/orders/{order.reference}"):
        text = (await desk.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|https?://", text), path


@pytest.mark.asyncio
async def test_guard_is_started_by_the_first_request() -> None:
    """A mounted app's lifespan is not run, so the first request starts the guard."""
    clock = ManualClock()
    guard = Guard(MemoryStore(clock=clock), shop=Shop("Fern", email="a@b.example"), clock=clock, duties=False)
    async with client_of(guard, who, **{"x-staff": "anna"}) as client:
        assert not guard.started
        assert (await client.get("/ops/")).status_code == 200
    await guard.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/", "/orders", "/orders/AAAA-AAAA-AAAA", "/next"])
async def test_store_that_is_away_is_said(path: str) -> None:
    """While the store does not answer the desk says so, and that nothing was done; then it works again."""
    store = FaultyStore(MemoryStore(clock=SystemClock()))
    async with desk_world(store=store) as world, client_of(world.guard, who, **{"x-staff": "anna"}) as client:
        store.decide = lambda verb: Fault.NOT_DONE
        answer = await client.get(f"/ops{path}")
        store.heal()
        again = await client.get("/ops/")
    assert (answer.status_code, answer.headers["retry-after"], again.status_code) == (503, "5", 200)
    assert "Nothing was done" in answer.text


@pytest.mark.asyncio
async def test_desk_that_is_served_alone_starts_and_stops_the_guard() -> None:
    """Without a shop's app around it, its own lifespan opens and closes the store."""
    clock = ManualClock()
    guard = Guard(MemoryStore(clock=clock), shop=Shop("Fern", email="a@b.example"), clock=clock, duties=False)
    sent: list[str] = []
    told = iter(["lifespan.startup", "lifespan.shutdown"])
    was: list[bool] = []

    async def receive() -> dict[str, str]:
        was.append(guard.started)
        return {"type": next(told)}

    async def send(message: dict[str, object]) -> None:
        sent.append(str(message["type"]))

    await dashboard(guard, auth=who)({"type": "lifespan", "state": {}}, receive, send)  # type: ignore[arg-type]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (was, guard.started) == ([False, True], False)


@pytest.mark.asyncio
async def test_websockets_are_turned_away() -> None:
    """There is nothing behind a websocket."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async with desk_world() as world:
        await dashboard(world.guard, auth=who)({"type": "websocket", "path": "/"}, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- other sites

ORIGINS = [
    ({"sec-fetch-site": "same-origin"}, True),
    ({"sec-fetch-site": "same-site"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
    ({"sec-fetch-site": "none"}, False),
    ({"sec-fetch-site": "cross-site", "origin": "http://shop.example"}, False),
    ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
    ({"origin": "http://shop.example"}, True),
    ({"origin": "http://SHOP.example"}, True),
    ({"origin": "http://shop.example:81"}, False),
    ({"origin": "http://evil.example"}, False),
    ({"origin": "http://shop.example.evil.example"}, False),
    ({"origin": "null"}, True),
    ({}, True),
]


@pytest.mark.parametrize(("headers", "ours"), ORIGINS)
def test_where_a_post_comes_from(headers: dict[str, str], ours: bool) -> None:
    """What a browser says of the sender decides where it says anything; else the form's token alone does."""
    assert from_here(Headers(headers | {"host": "shop.example"})) is ours


@pytest.mark.asyncio
@pytest.mark.parametrize("action", ["take", "requeue", "resolve", "finish", "cancel", "remark", "give_back"])
@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "", "origin": "https://evil.example"}])
async def test_other_sites_press_no_button(desk: DeskClient, action: str, headers: dict[str, str]) -> None:
    """A form on another site does nothing, even with a good token."""
    order = await desk.world.unknown()
    token = (await desk.forms("/"))["/ops/search"]["token"]
    answer = await desk.post(f"/orders/{order.reference}/{action}", {"token": token, "why": "x", "said": "charged"}, **headers)
    assert answer.status_code == 403
    assert (await desk.world.get(order.id)).revision == order.revision


@pytest.mark.asyncio
@pytest.mark.parametrize("token", ["", "x", "boris", "old", "link"])
async def test_form_without_its_token_does_nothing(desk: DeskClient, token: str) -> None:
    """Missing, forged, another person's, outdated, or made for something else: nothing is done, and what was typed is kept."""
    order = await desk.world.put("k")
    seal, now = desk.world.guard.engine.seal, desk.world.clock.now()
    made = {
        "boris": seal.sign_token("boris", expires_at=now + 60, purpose="desk-form"),
        "old": seal.sign_token("anna", expires_at=now, purpose="desk-form"),
        "link": seal.sign_token("anna", expires_at=now + 60, purpose="status"),
    }
    answer = await desk.post(f"/orders/{order.reference}/cancel", {"token": made.get(token, token), "why": "half a page of words"})
    assert answer.status_code == 403
    assert "half a page of words" in answer.text
    assert (await desk.world.get(order.id)).state is State.HELD


@pytest.mark.asyncio
async def test_reading_changes_nothing(desk: DeskClient) -> None:
    """No address does anything when it is only looked at."""
    order = await desk.world.unknown()
    for action in ("take", "cancel", "requeue", "resolve"):
        assert (await desk.get(f"/orders/{order.reference}/{action}")).status_code == 405
    await desk.get(f"/orders/{order.reference}")
    await desk.get("/next")
    assert (await desk.world.get(order.id)).revision == order.revision


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"why=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"f%d=1" % number for number in range(50)), "application/x-www-form-urlencoded", 400),
        (b'{"why": "x"}', "application/json", 415),
        (b"why=x", "text/plain", 415),
        (b"", "", 415),
    ],
)
async def test_form_that_is_none(desk: DeskClient, body: bytes, kind: str, status: int) -> None:
    """A body that no page of the desk sends is refused in words."""
    order = await desk.world.put("k")
    headers = SAME | {"content-type": kind}
    answer = await desk.client.post(f"/ops/orders/{order.reference}/cancel", content=body, headers=headers)
    assert answer.status_code == status
    assert (await desk.world.get(order.id)).state is State.HELD


# --- names and passwords


def _basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (_basic("anna", "correct horse"), 200),
        (_basic("anna", "wrong"), 401),
        (_basic("boris", "correct horse"), 401),
        (_basic("anna", ""), 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Bearer x"}, 401),
        ({}, 401),
    ],
)
async def test_basic_sign_in(headers: dict[str, str], status: int) -> None:
    """Only the right name with its own password comes in; a browser is asked for them."""
    auth = BasicAuth({"anna": password_hash("correct horse")})
    async with desk_world() as world, client_of(world.guard, auth) as client:
        first, second = [await client.get("/ops/", headers=headers) for _ in range(2)]
    assert (first.status_code, second.status_code) == (status, status)
    assert ("anna" in first.text) is (status == 200)
    assert first.headers.get("www-authenticate", "").startswith("Basic") is (status == 401)


@pytest.mark.asyncio
async def test_a_flood_of_guesses_leaves_the_shop_its_threads() -> None:
    """The event loop looks host names up in its own: a shop whose desk is guessed at still reaches its gateway."""
    auth = BasicAuth({"anna": password_hash("correct horse")})
    guesses = [asyncio.ensure_future(auth(_asks(_basic("anna", f"guess {n}")))) for n in range(100)]
    await asyncio.sleep(0)
    await asyncio.to_thread(lambda: "a host's name")
    assert not all(guess.done() for guess in guesses), "it had to wait for all of them"
    said = await asyncio.gather(*guesses)
    turned_away = [each for each in said if isinstance(each, Response)]
    assert {each.status_code for each in turned_away} == {429}
    assert 0 < len(turned_away) < len(said) == len(turned_away) + said.count(None)
    assert await auth(_asks(_basic("anna", "correct horse"))) == "anna"


def _asks(headers: dict[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/ops/", "query_string": b"", "headers": raw})


def test_passwords_never_stand_in_settings() -> None:
    """A plain password is refused with the line to write."""
    with pytest.raises(ConfigurationError, match="password_hash"):
        BasicAuth({"anna": "correct horse"})


@pytest.mark.parametrize("name", ["", "a:b"])
def test_names_that_http_cannot_carry(name: str) -> None:
    """An empty name, or one with a colon, is refused with the line to write."""
    with pytest.raises(ConfigurationError, match="password_hash"):
        BasicAuth({name: password_hash("x")})


def test_same_password_has_another_hash_each_time() -> None:
    """Hashes are salted: equal passwords cannot be seen in the settings."""
    assert password_hash("x") != password_hash("x")


def test_assets_are_small() -> None:
    """Style and script of the desk are a few kB: no framework crept in."""
    folder = Path(__file__).parents[2] / "cxguard" / "dashboard" / "assets"
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes["desk.js"] < 4_000
    assert sizes["desk.css"] < 24_000
