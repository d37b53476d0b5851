"""Two processes reach for one claim at the same moment: PostgreSQL's statements each see a moment of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from postgres_server import PostgresServer, running_postgres

from cxguard.stores.base import Match
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import LEASE_SECONDS, got, open_leased, put, queued, sample, seen

pytestmark = pytest.mark.server
SCHEMA = "claims_of_two"


@pytest_asyncio.fixture
async def stores() -> AsyncIterator[tuple[PostgresServer, PostgresStore, PostgresStore]]:
    with running_postgres() as server:
        pair = PostgresStore(server.url, schema=SCHEMA), PostgresStore(server.url, schema=SCHEMA)
        for store in pair:
            await store.start()
        yield server, *pair
        for store in pair:
            await store.stop()


async def somebody_waits(connection: psycopg.AsyncConnection[tuple[int]]) -> None:
    """Until a statement of the store stands before a lock of ours."""
    async with asyncio.timeout(10):
        while True:
            waiting = await connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            row = await waiting.fetchone()
            if row is not None and row[0]:
                return


@pytest.mark.asyncio
async def test_claim_that_appears_between_two_statements_is_not_taken(
    stores: tuple[PostgresServer, PostgresStore, PostgresStore],
) -> None:
    """One process looked for the claim before the other one had it, and for its record afterwards: it loses, and says to whom."""
    server, ours, theirs = stores
    ended = await put(theirs, queued("ended", claims=("first",)))
    async with (
        await psycopg.AsyncConnection.connect(server.url) as holding,
        await psycopg.AsyncConnection.connect(server.url, autocommit=True) as looking,
    ):
        await holding.execute(f"SELECT 1 FROM {SCHEMA}.operations WHERE id = '{ended.id}' FOR UPDATE".encode())
        wish = sample("late", claims=("first", "second"))
        opening = asyncio.ensure_future(
            ours.open(wish, holder="us", attempt="late", lease_seconds=LEASE_SECONDS, superseding=[seen(ended)])
        )
        await somebody_waits(looking)
        winner = await open_leased(theirs, sample("winner", claims=("second",)))
        await holding.rollback()
        opened = await opening
    assert (opened.won, opened.match, opened.claim, opened.operation.id) == (False, Match.CLAIM, "second", winner.id)
    assert (await got(theirs, winner.id)).claims == ("second",)
