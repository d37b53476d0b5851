"""Canaries: secrets of one shopper sent through every path, then looked for in everything that anybody could read."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from shopworld import KEYS, SECRET, SHOP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.core.money import NoteKind
from cxguard.core.operation import Operation, State
from cxguard.core.reading import Reading
from cxguard.dashboard import dashboard
from cxguard.engine.casefile import Actor
from cxguard.engine.desk import Desk
from cxguard.engine.doctor import examine_records, examine_store
from cxguard.engine.handle import current_operation
from cxguard.engine.report import build_report, report_to_json
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.logs import SafeFormatter
from cxguard.rules import Arrival, Funnel, Rule, cookie, form_field, header, json_field, page_has
from cxguard.stores.base import Query
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

pytestmark = pytest.mark.asyncio

CARDS = ("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "４１１１１１１１１１１１１１１１", "4111.1111.1111.1111")
EMAIL, COOKIE, BEARER, KEY, TYPED = "canary.ann@leak.example", "CanaryCookie77", "CanaryBearer88", "CanaryKey99", "Canaryname"
STREET, MAILBOX = "Canaryway Østerau", "canary.ann"  # of an address that stands in a form as canary.ann%40leak.example
CANARIES = (*CARDS, EMAIL, COOKIE, BEARER, KEY, TYPED, "Canaryway", MAILBOX)
HEADERS = {"cookie": f"visitor={COOKIE}", "authorization": f"Bearer {BEARER}"}
ENDED = (State.FINISHED, State.CANCELLED)
ASYNC, HTML, JSON = {"prefer": "respond-async"}, {"accept": "text/html"}, {"accept": "application/json"}


async def pay(request: Request) -> Response:
    """Charges, quotes what was typed, or fails with all of it in the message."""
    body = await request.json()
    quoted = " ".join([body["name"], body["note"], EMAIL, COOKIE, BEARER])
    if body["do"] == "raise first":
        raise RuntimeError(quoted)
    op = current_operation()
    await op.charge(Charge(body["amount"], "EUR", source=f"tok_{TYPED}", order_id=body["cart"], metadata={"name": body["name"]}))
    await op.step("mail", lambda: {"to": EMAIL, "name": body["name"]})
    if body["do"] == "raise after":
        raise RuntimeError(quoted)
    return JSONResponse({"for": quoted}, status_code=201, headers={"set-cookie": f"visitor={COOKIE}"})


async def form(request: Request) -> Response:
    """Any page of the shop: shows an error that quotes the whole form, or its query."""
    sent = await request.body()
    words = dict(request.query_params) or sent.decode()
    alert = f'<div role="alert">Sorry {TYPED}, {words} is not valid for {EMAIL}: card {CARDS[1]}</div>'
    return HTMLResponse(f"<html><body>{alert}</body></html>", status_code=422)


async def place(op: Any) -> dict[str, str]:
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], "EUR", source=f"tok_{TYPED}", order_id=body["cart"]))
    return {"paid": payment.payment_id, "to": EMAIL}


def rules() -> list[Rule]:
    money = {"amount_minor": json_field("amount"), "currency": "EUR", "wait_seconds": 0.0}
    kept = {"later": place, "terms": "1", "contact": json_field("email"), "purchase": [json_field("cart")]}
    return [
        Rule("POST /pay", owner=cookie("visitor"), key=header("Idempotency-Key"), **money, **kept),
        Rule(
            "POST /form", key=form_field("cart"), owner=cookie("visitor"), charged_by="shop", reads={Reading.SUCCEEDED: page_has(".thanks")}
        ),
    ]


@dataclass
class Place:
    """One shop on a file, and everything that anybody could read of it."""

    guard: Guard
    client: httpx.AsyncClient
    desk: httpx.AsyncClient
    clock: ManualClock
    gateway: FakeGateway
    folder: Path
    heard: list[Event]
    log: io.StringIO
    shown: list[str] = field(default_factory=list)

    async def pay(self, *, key: str, note: str = "", do: str = "pay", cart: str = "", **headers: str) -> httpx.Response:
        body = {"amount": 1000, "cart": cart or f"cart {key}", "email": EMAIL, "name": TYPED, "note": note, "do": do}
        return await self.client.post("/pay", json=body, headers={**HEADERS, "idempotency-key": f"{KEY}-{key}", **headers})

    async def records(self) -> tuple[Operation, ...]:
        return (await self.guard.store.search(Query(namespace="shop"))).operations

    async def rest(self) -> None:
        for _ in range(20):
            self.clock.advance(120.0)
            if (await self.guard.queue().run_once()).taken == 0:
                return

    async def sinks(self) -> dict[str, bytes]:
        """Everything readable, by name."""
        await drained(self.guard)
        found = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file() and "secret" not in path.name}
        found["log"] = self.log.getvalue().encode()
        found["events"] = repr(self.heard).encode()
        report = report_to_json(await build_report(self.guard.store, namespace="shop"))
        found["report"] = repr(report).encode()
        store = self.guard.store
        found["doctor"] = repr([await examine_store(store, self.clock), await examine_records(store, namespace="shop")]).encode()
        for path in ("/", "/now.json", "/orders", *[f"/orders/{one.reference}" for one in await self.records()]):
            found[f"desk {path}"] = (await self.desk.get(path)).content
        found["shown"] = "\n".join(self.shown).encode()
        return found


async def drained(guard: Guard) -> None:
    """Every visit is read and written."""
    while guard.runs:
        await asyncio.wait(set(guard.runs))
    while guard.recorder.waiting:
        await guard.recorder.flush_once()


@pytest_asyncio.fixture
async def place_of(tmp_path: Path) -> AsyncIterator[Any]:
    """`await place_of(**options)`: the shop, started; its logs are caught as JSON, for eyes, and by a handler of another's."""
    log, root = io.StringIO(), logging.getLogger()
    handlers = [logging.StreamHandler(log) for _ in range(3)]
    handlers[0].setFormatter(SafeFormatter(json=True))
    handlers[1].setFormatter(SafeFormatter(json=False))
    before = logging.getLogger("cxguard").level
    logging.getLogger("cxguard").setLevel(logging.INFO)
    for handler in handlers:
        handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))  # the shopper's own client, not the shop
        root.addHandler(handler)
    async with AsyncExitStack() as stack:

        async def made(**options: Any) -> Place:
            clock, gateway, heard = ManualClock(), FakeGateway(), []
            given: dict[str, Any] = {"rules": rules(), "gateways": [gateway], "listeners": [heard.append], "duties": False, "clock": clock}
            given |= {"funnel": Funnel(cart=("GET /cart", "POST /cart"), pay=("POST /pay", "POST /form")), "secret": SECRET, "keys": KEYS}
            guard = Guard(f"sqlite:///{tmp_path}/guard.db", shop=SHOP, **(given | options))
            await stack.enter_async_context(guard)
            routes = [Route("/pay", pay, methods=["POST"]), Route("/{rest:path}", form, methods=["GET", "POST"])]
            app = GuardMiddleware(Starlette(routes=routes), guard=guard)
            desk = dashboard(guard, auth=lambda request: "anna")
            clients = [
                await stack.enter_async_context(
                    httpx.AsyncClient(transport=httpx.ASGITransport(each, raise_app_exceptions=False), base_url="http://shop.example")
                )
                for each in (app, desk)
            ]
            return Place(guard, clients[0], clients[1], clock, gateway, tmp_path, heard, log)

        yield made
    for handler in handlers:
        root.removeHandler(handler)
    logging.getLogger("cxguard").setLevel(before)


def leaks(sinks: dict[str, bytes]) -> list[str]:
    """Where which canary sits. How to reach the shopper is what an order's page at the desk is there for."""
    found = [(word, name) for name, content in sinks.items() for word in CANARIES if word.encode() in content]
    return [f"{word!r} in {name}" for word, name in found if not (word in (EMAIL, MAILBOX) and name.startswith("desk /orders/"))]


async def test_no_path_of_an_order_leaves_a_canary_where_anybody_could_read_it(place_of: Any) -> None:
    """Success, replay, mismatch, decline, outage, unknown, and handlers that raise with all of it in the message."""
    place = await place_of()
    for key in ("good", "good"):
        await place.pay(key=key)
    await place.pay(key="good", note="other")
    await place.pay(key="same", cart="cart good")
    for key, does in (("no", Does.DECLINE), ("lost", Does.UNKNOWN), ("bug", Does.RAISE), ("more", Does.NEEDS_SHOPPER)):
        place.gateway.will(does)
        await place.pay(key=key, **ASYNC)
    place.gateway.will(*[Does.NOT_CHARGED] * 3)
    kept = await place.pay(key="kept", **ASYNC)
    assert kept.json()["situation"] == "kept"
    for key, do in (("first", "raise first"), ("after", "raise after")):
        await place.pay(key=key, do=do)
    assert leaks(await place.sinks()) == []
    await place.rest()
    assert leaks(await place.sinks()) == []
    assert [one.reference for one in await place.records() if one.state in ENDED and one.request is not None] == []


@pytest.mark.parametrize("card", CARDS)
async def test_a_request_with_a_card_is_never_kept(place_of: Any, card: str) -> None:
    """Whatever the card's digits are set apart by: the order of an outage is not kept, and nothing holds the number."""
    place = await place_of()
    for key, does in (("good", Does.CHARGE), ("lost", Does.UNKNOWN), ("kept", Does.NOT_CHARGED)):
        place.gateway.will(*[does] * (3 if does is Does.NOT_CHARGED else 1))
        told = await place.pay(key=key, note=f"my card is {card}", **ASYNC)
        assert told.json().get("situation") != "kept"
    await place.pay(key="raised", note=card, do="raise after")
    assert [one.request for one in await place.records()] == [None] * len(await place.records())
    assert leaks(await place.sinks()) == []


async def test_what_a_shopper_typed_is_in_no_exposure(place_of: Any) -> None:
    """The shop's own error pages quote whole forms, queries and card numbers."""
    place = await place_of()
    sent = {"cart": "c1", "name": TYPED, "card": CARDS[0], "email": EMAIL, "street": STREET}
    await place.client.post("/form", data=sent, headers=HEADERS)
    await place.client.post("/form", content=f'{{"cart":"c1","name":"{TYPED}"}}', headers={**HEADERS, "content-type": "text/plain"})
    await place.client.post("/cart", files={"photo": b"x" * 100_000}, data=sent, headers=HEADERS)
    await place.client.get("/cart", params=sent, headers=HEADERS)
    assert leaks(await place.sinks()) == []


async def test_remarks_of_shopper_and_desk_hold_no_card_and_no_address(place_of: Any) -> None:
    """What people write about an order is shown at the desk."""
    place = await place_of()
    place.gateway.will(*[Does.NOT_CHARGED] * 3)
    url = (await place.pay(key="kept", **ASYNC)).json()["status_url"]
    for card in CARDS:
        said = await place.client.post(f"{url}/say", data={"what": "other", "words": f"{card} {EMAIL}"}, headers=HTML)
        assert said.status_code == 303
    for kind in (HTML, JSON):
        place.shown.append((await place.client.get(url, headers=kind)).text)
    order = (await place.records())[0]
    desk = Desk(place.guard.engine, rules={}, purposes={})
    for card in CARDS:
        assert (await desk.remark(order.reference, Actor("anna", f"says {card} {EMAIL}"))).done
    (noted,) = await place.records()
    assert [note.kind for note in noted.notes] == [NoteKind.REMARK] * len(noted.notes)
    assert len(noted.notes) == 2 * len(CARDS)
    assert leaks(await place.sinks()) == []


async def test_watching_keeps_nothing_that_was_sent(place_of: Any) -> None:
    """`mode="watch"` records names, counts and readings."""
    place = await place_of(mode="watch")
    for key in ("a", "a", "b"):
        await place.pay(key=key, note=CARDS[1])
    await place.client.post("/form", data={"cart": "c1", "name": TYPED}, headers=HEADERS)
    assert leaks(await place.sinks()) == []


async def test_a_look_up_that_raises_with_a_secret_in_its_words_is_logged_without_them(place_of: Any) -> None:
    """The class of the error and where it was raised are there, for whoever has to mend it."""

    def owner(arrival: Arrival) -> str:
        raise LookupError(f"no visitor for {arrival.snapshot.header_all('cookie')} {BEARER} {TYPED}")

    place = await place_of(rules=[Rule("POST /pay", owner=owner)], funnel=None)
    assert (await place.pay(key="a")).status_code == 503
    assert (await place.pay(key="b", do="raise first")).status_code == 503
    assert leaks(await place.sinks()) == []
    assert "LookupError" in place.log.getvalue()
    assert "test_canaries.py" in place.log.getvalue()


async def test_a_hook_that_raises_in_the_queue_is_logged_without_its_words(place_of: Any) -> None:
    """A shop's own look-up of its charges may fail with anything in its message, in the request and hours later."""

    async def ask(op: Any) -> Any:
        raise LookupError(f"no charge for {TYPED} {COOKIE} {BEARER}")

    async def later(op: Any) -> Any:
        raise LookupError(f"no stock for {TYPED} {COOKIE} {BEARER}")

    by_shop = Rule("POST /pay", owner=cookie("visitor"), charged_by="shop", resolve=ask, later=later, terms="1", wait_seconds=0.0)
    place = await place_of(rules=[by_shop], funnel=None)
    await place.pay(key="a", do="raise first", **ASYNC)
    await place.rest()
    assert leaks(await place.sinks()) == []
    assert "handler.raised" in place.log.getvalue()
