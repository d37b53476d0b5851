"""`cxguard migrate` on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from postgres_server import PostgresServer, running_postgres

from cxguard.cli import main
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.postgres.statements import MIGRATIONS

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


async def _migrated(server: PostgresServer, schema: str) -> list[int]:
    from cxguard.stores.postgres.connection import connect, migrate_schema

    connection = await connect(server.url, schema=schema)
    try:
        return await migrate_schema(connection, schema=schema)
    finally:
        await connection.close()


def test_other_stores_are_told_that_they_need_none() -> None:
    """A file is brought up to date by being opened; nobody has to run anything."""
    result = CliRunner().invoke(main, ["migrate", "sqlite:///shop.db"])
    assert result.exit_code == 1
    assert "only PostgreSQL has migrations" in result.output
