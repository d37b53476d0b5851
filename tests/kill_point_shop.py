"""A guarded shop, as a program, that kills itself at a point that it is told by its environment. No part of the product knows.

    KILL_AT=save.after:2  dies by its own hand after the second save of the store, before anybody hears of it
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Guard, Purpose, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.engine.engine import Timeouts
from cxguard.gateways.http import HttpGateway
from cxguard.stores.sqlite import SQLiteStore


class Point:
    """Counts how often each named point is passed, and ends the process at the one that was asked for."""

    def __init__(self, asked: str) -> None:
        name, _, count = asked.partition(":")
        self._name, self._left = name, int(count or 1)

    def passed(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalStore:
    """The real store, with a point before and after each write."""

    def __init__(self, store: SQLiteStore, point: Point) -> None:
        self._store = store
        self._point = point

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        if name not in ("open", "save", "seize", "take", "note"):
            return there

        async def verb(*args: Any, **named: Any) -> Any:
            self._point.passed(f"{name}.before")
            result = await there(*args, **named)
            self._point.passed(f"{name}.after")
            return result

        return verb


class MortalGateway(HttpGateway):
    """The real adapter, with a point before and after each call."""

    point: Point

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Any:
        self.point.passed("charge.before")
        outcome = await super().charge(charge, key=key, timeout_seconds=timeout_seconds)
        self.point.passed("charge.after")
        return outcome

    async def find(self, key: str, *, timeout_seconds: float) -> Any:
        self.point.passed("find.before")
        outcome = await super().find(key, timeout_seconds=timeout_seconds)
        self.point.passed("find.after")
        return outcome

    async def refund(self, payment_id: str, *, key: str, amount_minor: int, currency: str, timeout_seconds: float) -> Any:
        self.point.passed("refund.before")
        outcome = await super().refund(
            payment_id, key=key, amount_minor=amount_minor, currency=currency, timeout_seconds=timeout_seconds
        )
        self.point.passed("refund.after")
        return outcome


class MortalServer:
    """The shop as its server sees it, with points around each message of the answer."""

    def __init__(self, app: Any, point: Point) -> None:
        self._app = app
        self._point = point

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def mortal_send(message: Any) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            name = "answer.head" if message["type"] == "http.response.start" else "answer.last" if last else "answer.body"
            if scope["type"] == "http" and scope["path"] == "/pay":
                self._point.passed(f"{name}.before")
                await send(message)
                self._point.passed(f"{name}.after")
            else:
                await send(message)

        await self._app(scope, receive, mortal_send)


def number(cart: str) -> str:
    with Path(os.environ["KILL_FOLDER"], "orders").open("a", encoding="utf-8") as orders:
        orders.write(f"{cart}\n")
    return f"FC-{cart}"


async def place(op: Any, order: dict[str, Any]) -> dict[str, str]:
    POINT.passed("handler.begun")
    payment = await op.charge(Charge(order["amount"], "EUR", source=order["source"], order_id=order["cart"]))
    POINT.passed("handler.charged")
    placed = await op.step("number", number, order["cart"], repeatable=True)
    POINT.passed("handler.placed")
    return {"paid": payment.payment_id, "order": placed, "reference": op.reference}


async def pay(request: Request) -> JSONResponse:
    return JSONResponse(await place(current_operation(), await request.json()), status_code=201)


async def later(op: Any) -> dict[str, str]:
    return await place(op, op.request.json())


async def refund(request: Request) -> JSONResponse:
    """Give a part back, days later."""
    async with guard.resume(reference=request.path_params["reference"], lease_seconds=2.0) as op:
        back = await op.refund(1000)
    return JSONResponse({"refunded": back.amount_minor})


POINT = Point(os.environ.get("KILL_AT", ""))
MortalGateway.point = POINT
KEYED = os.environ.get("KILL_KEYED", "yes") == "yes"
gateway = MortalGateway("http:shop:test", os.environ["KILL_GATEWAY"], keyed=KEYED, settle_seconds=0.0)


def _store() -> Any:
    from cxguard.clock import SystemClock

    store = SQLiteStore(Path(os.environ["KILL_FOLDER"], "shop.db"), clock=SystemClock())
    return MortalStore(store, POINT) if os.environ.get("KILL_AT") else store


rule = Rule(
    "POST /pay",
    owner=header("x-user"),
    amount_minor=json_field("amount"),
    currency="EUR",
    later=later,
    terms="2026-11",
    lease_seconds=2.0,
    wait_seconds=3.0,
    deadline_seconds=8.0,
)
guard = Guard(
    _store() if os.environ.get("KILL_AT") else f"sqlite:///{os.environ['KILL_FOLDER']}/shop.db",
    rules=[rule],
    shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
    gateways=[gateway],
    timeouts=Timeouts(attempt_seconds=1.5, find_seconds=1.0),
    purposes=[Purpose("refund")],
    secret=bytes(range(32)),
    keys=[bytes(range(1, 33))],
    duties=True,
)
shop = Starlette(routes=[Route("/pay", pay, methods=["POST"]), Route("/refund/{reference}", refund, methods=["POST"])])
app = MortalServer(GuardMiddleware(shop, guard=guard), POINT)
