"""From where `op.finish(connection=...)` may be called, and with what: threads, other databases, a process that is killed."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from finish_shop import made
from finishworld import WHO, FinishWorld, charged, finish_world
from postgres_server import PostgresServer
from servers import ROOT, Spawn
from shopworld import KEYS, SECRET, SHOP
from test_examples_gateways import Demo

from cxguard.errors import AlreadyFinished, ConfigurationError, FinishRefused, OperationHeld
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.testing.clock import ManualClock

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    return shared_postgres


@pytest_asyncio.fixture
async def world(server: PostgresServer) -> AsyncIterator[FinishWorld]:
    async with finish_world(server) as made:
        yield made


async def refused(world: FinishWorld, connection: Any) -> str:
    """What `op.finish` says of *connection*. The operation itself ends well."""
    said = []

    async def ask(op: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            await op.finish({}, connection=connection)
        said.append(str(caught.value))

    await world.guard.run(ask, **WHO)
    return said[0]


async def test_connection_without_a_transaction_is_refused(world: FinishWorld) -> None:
    """One that commits each statement by itself could not commit two things together."""
    async with await world.connect(autocommit=True) as connection:
        assert "async with connection.transaction():" in await refused(world, connection)


async def test_other_database_is_refused(world: FinishWorld) -> None:
    """A database on the same server that is not the store's: both are named, and nothing was written."""
    async with await world.connect(autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {world.schema}".encode())
    async with await psycopg.AsyncConnection.connect(world.url.replace("/postgres", f"/{world.schema}")) as connection:
        text = await refused(world, connection)
    assert repr(world.schema) in text
    assert "'postgres'" in text


async def test_connection_that_would_block_the_loop_is_refused(world: FinishWorld) -> None:
    """A `psycopg.Connection` belongs into a thread, and to `op.sync`."""
    with psycopg.connect(world.url) as connection:
        assert "op.sync.finish" in await refused(world, connection)


async def test_read_only_transaction_is_refused(world: FinishWorld) -> None:
    """It could write neither the order nor its end."""
    async with await world.connect() as connection:
        await connection.execute("SET TRANSACTION READ ONLY")
        assert "takes no writes" in await refused(world, connection)


async def test_session_of_an_orm_is_refused_with_the_way_to_its_connection(world: FinishWorld) -> None:
    """Whatever is no connection of psycopg's hears where others keep theirs."""
    assert "driver_connection" in await refused(world, object())


async def test_role_without_rights_is_named(world: FinishWorld) -> None:
    """A role that may not write the orders: the error says what to give it, and the transaction rolls back."""
    role = f"r{world.schema}"
    async with await world.connect(autocommit=True) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN".encode())
    async with await psycopg.AsyncConnection.connect(world.url.replace("shop@", f"{role}@")) as connection:

        async def ask(op: Any) -> None:
            await op.finish({}, connection=connection)

        with pytest.raises(ConfigurationError, match="may not write the orders"):
            await world.guard.run(ask, **WHO)


async def test_other_stores_are_refused() -> None:
    """Where the orders are not in PostgreSQL there is no transaction to join."""
    async with Guard("memory://", shop=SHOP, secret=SECRET, keys=KEYS, duties=False) as guard:

        async def ask(op: Any) -> None:
            with pytest.raises(ConfigurationError, match="postgresql://"):
                await op.finish({}, connection=object())

        await guard.run(ask, **WHO)


async def test_finish_inside_a_step_is_refused(world: FinishWorld) -> None:
    """A step that ended the operation could not be recorded as done."""

    async def nested(op: Any) -> None:
        async def step() -> None:
            async with await world.connect() as connection:
                with pytest.raises(FinishRefused, match="inside_a_step"):
                    await op.finish({}, connection=connection)

        await op.step("one", step)

    await world.guard.run(nested, **WHO)


async def test_second_finish_is_refused(world: FinishWorld) -> None:
    """What has committed stays as it is; a charge that was made is still told."""

    async def twice(op: Any) -> None:
        payment = await charged(op)
        for expected in (None, AlreadyFinished):
            async with await world.connect() as connection, connection.transaction():
                if expected is None:
                    await op.finish({"n": 1}, connection=connection)
                else:
                    with pytest.raises(expected):
                        await op.finish({"n": 2}, connection=connection)
        assert await charged(op) == payment

    assert await world.guard.run(twice, **WHO) == {"n": 1}


async def test_thread_finishes_on_its_own_connection(world: FinishWorld) -> None:
    """`op.sync.finish` works on a blocking connection, in the thread that it belongs to."""

    def place(op: Any) -> None:
        payment = op.charge(Charge(4999, "EUR", source="tok_ok"))
        with psycopg.connect(world.url) as connection:
            connection.execute(f"INSERT INTO {world.schema}.shop_orders VALUES ('o1')".encode())
            op.finish({"payment": payment.payment_id}, connection=connection)

    result = await asyncio.to_thread(lambda: world.guard.sync.run(place, **WHO))
    assert result == {"payment": "pay_1"}
    assert await world.orders() == ["o1"]
    assert await asyncio.to_thread(lambda: world.other.sync.run(place, **WHO)) == result


async def test_kept_order_is_placed_in_a_transaction_of_the_workers(server: PostgresServer) -> None:
    """`later=` may finish in the shop's own transaction, too."""

    async def later(op: Any) -> None:
        payment = await charged(op)
        async with await world.connect() as connection:
            await world.write(connection)
            await op.finish({"payment": payment}, connection=connection)

    async def dies(op: Any) -> None:
        await charged(op)
        raise OSError

    async with finish_world(server, later=later) as world:
        with pytest.raises(OSError):
            await world.guard.run(dies, **WHO)
        await world.rest()
        assert await world.guard.run(dies, **WHO) == {"payment": "pay_1"}
        assert await world.orders() == ["o1"]
        assert len(world.gateway.standing) == 1


@pytest.mark.parametrize("dies", ["before", "after"])
async def test_process_killed_around_its_commit(server: PostgresServer, spawn: Spawn, tmp_path: Path, dies: str) -> None:
    """Killed before the commit: neither order nor end, and one charge that is found. Killed after it: both, and the answer."""
    demo = Demo(spawn([sys.executable, "-m", "cxguard.demo.gateway", "--ledger", str(tmp_path / "gateway.db")], ready="control_url"))
    schema, clock = f"k{secrets.token_hex(4)}", ManualClock(now=time.time() + 3600)  # its lease has lapsed by then
    process = spawn([sys.executable, str(ROOT / "tests/finish_shop.py"), server.url, schema, demo.url, dies], ready="begins")
    process.wait_gone()
    async with made(server.url, schema, demo.url, clock=clock) as guard, await psycopg.AsyncConnection.connect(server.url) as connection:

        async def never(op: Any) -> None:
            raise AssertionError(op.reference)

        if dies == "after":
            assert set(await guard.run(never, **WHO)) == {"payment"}
        else:
            with pytest.raises(OperationHeld, match="order_missing"):
                await guard.run(never, **WHO)
        found = await connection.execute(f"SELECT count(*) FROM {schema}.shop_orders".encode())
        assert await found.fetchone() == (1 if dies == "after" else 0,)
    assert len(demo.standing()) == 1
