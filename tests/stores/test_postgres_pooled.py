"""The PostgreSQL store behind a real PgBouncer in transaction mode: each transaction may run on another connection."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from finishworld import WHO, charged, finish_world
from pgbouncer import pgbouncer_binary, pooled
from postgres_server import PostgresServer

from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.contract.leasing import SeizingContract, TakingContract
from cxguard.testing.contract.noting import NotingContract
from cxguard.testing.contract.opening import OpeningContract
from cxguard.testing.contract.saving import SavingContract

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def pooler(shared_postgres: PostgresServer) -> Iterator[str]:
    if pgbouncer_binary() is None:
        pytest.skip("no PgBouncer here: apt-get install pgbouncer")
    with pooled(shared_postgres) as url:
        yield url


class TestPostgresBehindPgBouncer(OpeningContract, SavingContract, TakingContract, SeizingContract, NotingContract):
    """The verbs that a request and a worker use; nothing that they need is left in a session."""

    @pytest.fixture
    def store_factory(self, pooler: str) -> StoreFactory:
        schema = f"b{secrets.token_hex(6)}"
        return lambda clock: PostgresStore(pooler, schema=schema, clock=clock)


def test_transactions_do_get_other_connections(pooler: str) -> None:
    """What this file is about: one client, several processes of the server."""
    with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as one, psycopg.connect(pooler, prepare_threshold=None) as other:
        before = one.execute("SELECT pg_backend_pid()").fetchone()
        other.execute("SELECT 1")  # begins a transaction, and so keeps the connection that was free last
        assert one.execute("SELECT pg_backend_pid()").fetchone() != before


@pytest.mark.asyncio
async def test_shops_own_transaction_through_the_pooler(shared_postgres: PostgresServer, pooler: str) -> None:
    """`op.finish(connection=...)` on a pooled connection: order and end are there together."""
    async with finish_world(replace(shared_postgres, url=pooler)) as world:

        async def place(op: Any) -> None:
            payment = await charged(op)
            async with await world.connect() as connection:
                await world.write(connection)
                await op.finish({"payment": payment}, connection=connection)

        assert await world.guard.run(place, **WHO) == {"payment": "pay_1"}
        assert await world.orders() == ["o1"]
