"""The shop's own order and the end of the guard's operation in one transaction of PostgreSQL: both are there, or neither.

Run it, with a gateway that can be broken to order:

    python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
    export SHOP_DATABASE=postgresql://shop@127.0.0.1/shop CXGUARD_SECRET=$(openssl rand -hex 32) CXGUARD_KEYS=$(openssl rand -hex 32)
    uvicorn examples.one_transaction.app:app

The charge is made before the transaction begins: no call to a gateway belongs into one. `op.finish` is the last thing before the
commit. A process that dies before that leaves a paid order without a row, which a worker completes by `later`; one that dies after
it has sold, and whoever presses again gets the answer that was committed.
"""

from __future__ import annotations

import os
from typing import Any

import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Charge, Gateway, Guard, OperationHandle, Rule, Shop, current_operation, header, json_field
from cxguard.asgi import GuardMiddleware
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway

TABLE = "CREATE TABLE IF NOT EXISTS orders (basket_id text PRIMARY KEY, payment_id text NOT NULL, amount_minor bigint NOT NULL)"
INSERT = "INSERT INTO orders (basket_id, payment_id, amount_minor) VALUES (%s, %s, %s)"


class Orders:
    """The shop. A real one would take its connections from a pool."""

    def __init__(self, database: str) -> None:
        self._database = database

    async def pay(self, request: Request) -> JSONResponse:
        """`POST /pay`"""
        try:
            return await self.place(current_operation(), await request.json())
        except PaymentDeclined:
            return JSONResponse({"title": "Your bank did not approve it"}, status_code=402)

    async def later(self, op: OperationHandle) -> None:
        """A kept order, or a paid one whose process died: the same, by the worker."""
        assert op.request is not None, "the rule keeps requests"
        await self.place(op, op.request.json())

    async def place(self, op: OperationHandle, order: dict[str, Any]) -> JSONResponse:
        payment = await op.charge(Charge(order["amount_minor"], "EUR", source=order["source"], order_id=order["basket_id"]))
        told = {"order": order["basket_id"], "payment": payment.payment_id}
        async with await psycopg.AsyncConnection.connect(self._database) as connection:  # commits at its end
            await connection.execute(INSERT, (order["basket_id"], payment.payment_id, payment.amount_minor))
            await op.finish(told, connection=connection, status=201)
        return JSONResponse(told, status_code=201)


def make_app(gateway: Gateway, *, database: str, **options: Any) -> Any:
    shop = Orders(database)
    rule = Rule(
        "POST /pay",
        owner=header("x-shopper"),  # an example only: take yours from a signed session
        key=json_field("basket_id"),
        amount_minor=json_field("amount_minor"),
        currency="EUR",
        later=shop.later,
        terms="2026-11",
        client_reads_202=True,
    )
    guard = Guard(database, rules=[rule], shop=Shop("Fern & Co", phone="+44 20 7946 0000"), gateways=[gateway], **options)
    app = Starlette(routes=[Route("/pay", shop.pay, methods=["POST"])])
    return GuardMiddleware(app, guard=guard)


def create_table(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(TABLE)


if "SHOP_DATABASE" in os.environ:
    create_table(os.environ["SHOP_DATABASE"])
    app = make_app(
        HttpGateway("http:example:test", os.environ.get("SHOP_GATEWAY", "http://127.0.0.1:8801")), database=os.environ["SHOP_DATABASE"]
    )
