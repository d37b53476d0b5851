"""One shopper's secrets, a shop that they are sent through, and everything of it that anybody could read."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from shopworld import KEYS, SECRET, SHOP
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.asgi.explaining import explain
from cxguard.cli.explanation_views import explanation_json, print_explanation
from cxguard.cli.order_views import order_json, print_order
from cxguard.core.operation import Operation, State
from cxguard.core.reading import Reading
from cxguard.dashboard import dashboard
from cxguard.engine.doctor import examine_records, examine_store
from cxguard.engine.handle import current_operation
from cxguard.engine.report import build_report, report_to_json
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.logs import SafeFormatter
from cxguard.metrics import measured, written
from cxguard.rules import Funnel, Rule, cookie, form_field, header, json_field, page_has
from cxguard.stores.base import Query
from cxguard.testing.clock import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway

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
    more: Callable[[], Awaitable[dict[str, bytes]]] | None = None  # what a server of a store keeps

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
        found = self.on_disk()
        report = report_to_json(await build_report(self.guard.store, namespace="shop"))
        found["report"] = repr(report).encode()
        store = self.guard.store
        found["doctor"] = repr([await examine_store(store, self.clock), await examine_records(store, namespace="shop")]).encode()
        for path in ("/", "/now.json", "/orders", *[f"/orders/{one.reference}" for one in await self.records()]):
            found[f"desk {path}"] = (await self.desk.get(path)).content
        found["shown"] = "\n".join(self.shown).encode()
        found["metrics"] = written(await measured(self.guard), accept="")[0]
        found["orders show"] = _printed(await self.records())
        return found | (await self.more() if self.more is not None else {})

    def on_disk(self) -> dict[str, bytes]:
        """The files, and what was logged and heard."""
        found = {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file() and "secret" not in path.name}
        return {**found, "log": self.log.getvalue().encode(), "events": repr(self.heard).encode()}

    async def explained(self, card: str) -> bytes:
        """What `cxguard explain` says of a request with a card in it, as text and as JSON."""
        body = json.dumps({"amount": 1000, "cart": f"cart {card}", "email": EMAIL, "name": TYPED, "note": card, "cvv": "123"})
        sent = [(b"content-type", b"application/json"), *((name.encode(), value.encode()) for name, value in HEADERS.items())]
        key = "".join(letter for letter in card if letter.isascii() and letter.isdigit()) or "k"
        sent.append((b"idempotency-key", key.encode()))
        scope = {"type": "http", "method": "POST", "path": "/pay", "query_string": b"", "headers": sent}
        found = await explain(self.guard, scope, body.encode())
        text = io.StringIO()
        with redirect_stdout(text):
            print_explanation(found)
        return (text.getvalue() + json.dumps(explanation_json(found), ensure_ascii=False)).encode()

    async def a_day(self) -> None:
        """Success, replay, mismatch, decline, outage, unknown, and handlers that raise with all of it in the message."""
        for key in ("good", "good"):
            await self.pay(key=key)
        await self.pay(key="good", note="other")
        await self.pay(key="same", cart="cart good")
        for key, does in (("no", Does.DECLINE), ("lost", Does.UNKNOWN), ("bug", Does.RAISE), ("more", Does.NEEDS_SHOPPER)):
            self.gateway.will(does)
            await self.pay(key=key, **ASYNC)
        self.gateway.will(*[Does.NOT_CHARGED] * 3)
        kept = await self.pay(key="kept", **ASYNC)
        assert kept.json()["situation"] == "kept"
        for key, do in (("first", "raise first"), ("after", "raise after")):
            await self.pay(key=key, do=do)


def _printed(operations: tuple[Operation, ...]) -> bytes:
    """What `cxguard orders show` prints, as text and as JSON."""
    text = io.StringIO()
    with redirect_stdout(text):
        for one in operations:
            print_order(one, {})
            text.write(json.dumps(order_json(one, whole=True), default=str))
    return text.getvalue().encode()


async def drained(guard: Guard) -> None:
    """Every visit is read and written."""
    while guard.runs:
        await asyncio.wait(set(guard.runs))
    while guard.recorder.waiting:
        await guard.recorder.flush_once()


@asynccontextmanager
async def canary_places(folder: Path) -> AsyncIterator[Callable[..., Awaitable[Place]]]:
    """`await places(**options)`: the shop, started; its logs are caught as JSON, for eyes, and by a handler of another's."""
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

        async def made(store: Any = None, **options: Any) -> Place:
            clock, gateway, heard = options.pop("clock", None) or ManualClock(), FakeGateway(), []
            given: dict[str, Any] = {"rules": rules(), "gateways": [gateway], "listeners": [heard.append], "duties": False, "clock": clock}
            given |= {"funnel": Funnel(cart=("GET /cart", "POST /cart"), pay=("POST /pay", "POST /form")), "secret": SECRET, "keys": KEYS}
            guard = Guard(store or f"sqlite:///{folder}/guard.db", shop=SHOP, **(given | options))
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
            return Place(guard, clients[0], clients[1], clock, gateway, folder, heard, log)

        yield made
    for handler in handlers:
        root.removeHandler(handler)
    logging.getLogger("cxguard").setLevel(before)


def leaks(sinks: dict[str, bytes]) -> list[str]:
    """Where which canary sits. How to reach the shopper is what an order's page at the desk is there for."""
    found = [(word, name) for name, content in sinks.items() for word in CANARIES if word.encode() in content]
    return [f"{word!r} in {name}" for word, name in found if not (word in (EMAIL, MAILBOX) and name.startswith("desk /orders/"))]
