"""The example of one transaction is run, and killed between its charge and its commit; so are the README's lines about it."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from example_ground import client_of, load
from postgres_server import PostgresServer
from shopworld import KEYS, SECRET, SHOP
from test_readme import IN_ONE, run

from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import FakeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

ORDER = {"basket_id": "b1", "amount_minor": 4999, "source": "tok_ok"}
OPTIONS: dict[str, Any] = {"secret": SECRET, "keys": KEYS, "duties": False}


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    """A database of its own: the example's guard and table have the usual names."""
    name = f"shop_{secrets.token_hex(4)}"
    with psycopg.connect(shared_postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return replace(shared_postgres, url=shared_postgres.url.replace("/postgres", f"/{name}"))


def rows(server: PostgresServer) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url) as connection:
        return connection.execute("SELECT * FROM orders").fetchall()


async def test_one_transaction_sells_once_and_a_worker_completes_what_failed_before_its_commit(server: PostgresServer) -> None:
    """A double click sells once. Without the shop's table the order is paid and has no row: the worker completes it by `later`."""
    gateway, example = FakeGateway(), load("one_transaction/app.py")
    app = example.make_app(gateway, database=server.url, **OPTIONS)
    async with client_of(app) as client:
        first = await client.post("/pay", json=ORDER, headers={"x-shopper": "ann"})
        assert (first.status_code, first.json()["situation"]) == (202, "paid_unfinished"), "there is no table yet"
        example.create_table(server.url)
        (waiting,) = (await app.guard.store.search(Query(namespace="shop"))).operations
        await app.guard.queue().attend_now(waiting)  # its turn would come in some seconds
        again = await client.post("/pay", json=ORDER, headers={"x-shopper": "ann"})
        order = {**ORDER, "basket_id": "b2"}
        clicks = await asyncio.gather(*(client.post("/pay", json=order, headers={"x-shopper": "ann"}) for _ in range(2)))
    assert again.json()["money"] == "charged"
    assert [click.json() for click in clicks] == [{"order": "b2", "payment": "pay_2"}] * 2
    assert rows(server) == [("b1", "pay_1", 4999), ("b2", "pay_2", 4999)]
    assert len(gateway.standing) == 2


async def test_the_lines_of_the_readme_finish_in_one_transaction(server: PostgresServer) -> None:
    """As printed: the order's row and the result are there, and a second run gives the result."""
    load("one_transaction/app.py").create_table(server.url)
    order = {"id": "b1", "amount": 4999, "currency": "EUR", "token": "tok_ok", "customer": "ann"}
    async with Guard(server.url, shop=SHOP, gateways=[FakeGateway()], **OPTIONS) as guard:
        for _ in range(2):
            assert (await run(IN_ONE, guard=guard, order=order, DATABASE=server.url))["result"] == {"payment": "pay_1"}
    assert rows(server) == [("b1", "pay_1", 4999)]
