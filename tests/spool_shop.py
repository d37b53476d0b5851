"""A guarded shop on PostgreSQL with a spool, as a program for `uvicorn`. No part of the product knows of it.

    SPOOL_DATABASE, SPOOL_SCHEMA, SPOOL_FILE, SPOOL_GATEWAY
    KILL_AT=open.after:1   dies by its own hand after the first `open` of the shared store, before anybody hears of it
"""

from __future__ import annotations

import os
import signal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Guard, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.engine import forwarding, spool
from cxguard.gateways.http import HttpGateway
from cxguard.stores.postgres import PostgresStore

forwarding.LEASE_SECONDS = spool.LEASE_SECONDS = 3.0  # so that whoever was killed is not waited for half a minute
PATIENCE_SECONDS = 1.5  # less than a shop's, so that the tests wait for one time-out and not for ages


class MortalStore:
    """The real store, with a point before and after each write."""

    def __init__(self, store: PostgresStore, kill_at: str) -> None:
        self._store = store
        self._point, _, count = kill_at.partition(":")
        self._left = int(count or 1)

    def __getattr__(self, name: str) -> Any:
        there = getattr(self._store, name)
        if name not in ("open", "save", "seize", "note"):
            return there

        async def verb(*args: Any, **named: Any) -> Any:
            self._passed(f"{name}.before")
            result = await there(*args, **named)
            self._passed(f"{name}.after")
            return result

        return verb

    def _passed(self, point: str) -> None:
        self._left -= point == self._point
        if point == self._point and self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def place(op: Any, order: dict[str, Any]) -> dict[str, str]:
    payment = await op.charge(Charge(order["amount"], "EUR", source=order["source"], order_id=order["cart"]))
    return {"paid": payment.payment_id, "reference": op.reference}


async def pay(request: Request) -> JSONResponse:
    return JSONResponse(await place(current_operation(), await request.json()), status_code=201)


async def later(op: Any) -> dict[str, str]:
    return await place(op, op.request.json())


def _store() -> Any:
    store = PostgresStore(os.environ["SPOOL_DATABASE"], schema=os.environ["SPOOL_SCHEMA"], patience_seconds=PATIENCE_SECONDS)
    return MortalStore(store, os.environ["KILL_AT"]) if os.environ.get("KILL_AT") else store


rule = Rule(
    "POST /pay",
    owner=header("x-user"),
    amount_minor=json_field("amount"),
    currency="EUR",
    later=later,
    terms="2026-11",
    lease_seconds=2.0,
    wait_seconds=1.0,
)
guard = Guard(
    _store(),
    rules=[rule],
    shop=Shop("Fern & Co", phone="+44 20 7946 0000"),
    gateways=[HttpGateway("http:shop:test", os.environ["SPOOL_GATEWAY"])],
    secret=bytes(range(32)),
    keys=[bytes(range(1, 33))],
    duties=None if os.environ.get("KILL_AT") else True,  # a mortal one only forwards
    spool=os.environ["SPOOL_FILE"],
)
app = GuardMiddleware(Starlette(routes=[Route("/pay", pay, methods=["POST"])]), guard=guard)
