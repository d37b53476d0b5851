"""`cxguard migrate` on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from click.testing import CliRunner
from postgres_server import PostgresServer, running_postgres

from cxguard.cli import main
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.postgres.connection import migrated
from cxguard.stores.postgres.statements import MIGRATIONS
from cxguard.testing.contract.base import open_leased, sample, token_of

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


def test_migrate_makes_the_schema_once(server: PostgresServer) -> None:
    """The first run says what it applied, the second that there is nothing to do."""
    all_of_them = ", ".join(str(number) for number, _ in MIGRATIONS)
    first = CliRunner().invoke(main, ["migrate", server.url, "--schema", "eu"])
    assert (first.exit_code, first.output) == (0, f"schema eu: applied {all_of_them}\n")
    second = CliRunner().invoke(main, ["migrate", server.url, "--schema", "eu"])
    assert (second.exit_code, second.output) == (0, "schema eu: up to date\n")


@pytest.mark.asyncio
async def test_shop_may_then_run_without_the_right_to_migrate(server: PostgresServer) -> None:
    """A store that may not change the schema starts on one that was made for it."""
    assert await _migrated(server, "us")
    store = PostgresStore(server.url, schema="us", migrate=False)
    await store.start()
    await store.stop()


@pytest.mark.asyncio
async def test_restore_that_is_announced_begins_another_life(server: PostgresServer) -> None:
    """After `--restored` the store's epoch is another one, and lease tokens have jumped ahead of any that were lost."""
    store = PostgresStore(server.url, schema="back")
    await store.start()
    before, first = store.epoch, await open_leased(store, sample("a"))
    await store.stop()
    told = await asyncio.to_thread(CliRunner().invoke, main, ["migrate", server.url, "--schema", "back", "--restored"])
    assert told.exit_code == 0, told.output
    await store.start()
    assert before != store.epoch
    assert store.epoch in told.output
    assert token_of(await open_leased(store, sample("b"))) - token_of(first) >= 2**32
    await store.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "noticed"])
async def test_a_copy_that_has_the_rows_and_not_the_sequence_gives_no_number_twice(server: PostgresServer, announced: bool) -> None:
    """As logical replication leaves it, its sequence at the start: with the data's lives, or, announced, without them."""
    schema = f"copy_{announced}".lower()
    store = PostgresStore(server.url, schema=schema)
    await store.start()
    async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
        await connection.execute(f"SELECT setval('{schema}.numbers', {3 * 2**32 if announced else 2 * 2**32 + 1000})".encode())
        last = token_of(await open_leased(store, sample("a")))
        await store.stop()
        if not announced:
            lives = "VALUES (2, 's', 't', 'failover'), (3, 's', 't', 'failover')"
            await connection.execute(f"INSERT INTO {schema}.lives (number, system, timeline, reason) {lives}".encode())
        await connection.execute(f"SELECT setval('{schema}.numbers', 1)".encode())
    await migrated(server.url, schema=schema, restored=announced)
    await store.start()
    assert token_of(await open_leased(store, sample("b"))) > last
    await store.stop()


async def _migrated(server: PostgresServer, schema: str) -> list[int]:
    applied, _ = await migrated(server.url, schema=schema, restored=False)
    return applied


def test_other_stores_are_told_that_they_need_none() -> None:
    """A file is brought up to date by being opened; nobody has to run anything."""
    result = CliRunner().invoke(main, ["migrate", "sqlite:///shop.db"])
    assert result.exit_code == 2
    assert "only PostgreSQL has migrations" in result.output
