"""A fact is noted while another process saves or takes the record: it is never lost, and never in the way of the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from postgres_server import PostgresServer, running_postgres

from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import SHOP, charged_note, got, open_leased, put, queued, sample, take, token_of

pytestmark = pytest.mark.server
SCHEMA = "notes_of_two"
ROUNDS, RECORDS = 12, 16

Stores = tuple[PostgresServer, PostgresStore, PostgresStore]


@pytest_asyncio.fixture
async def stores() -> AsyncIterator[Stores]:
    with running_postgres() as server:
        pair = PostgresStore(server.url, schema=SCHEMA), PostgresStore(server.url, schema=SCHEMA)
        for store in pair:
            await store.start()
        yield server, *pair
        for store in pair:
            await store.stop()


async def until_waiting(connection: psycopg.AsyncConnection[tuple[int]], count: int) -> None:
    """Until so many statements of the stores stand before a lock."""
    async with asyncio.timeout(10):
        while True:
            waiting = await connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            row = await waiting.fetchone()
            if row is not None and row[0] >= count:
                return


@pytest.mark.asyncio
async def test_note_that_comes_while_a_save_waits_is_kept(stores: Stores) -> None:
    """A save that stood behind the note in the server's own line comes back with it, and so does the next reader."""
    server, ours, theirs = stores
    opened = await open_leased(ours, sample("a"))
    async with (
        await psycopg.AsyncConnection.connect(server.url) as holding,
        await psycopg.AsyncConnection.connect(server.url, autocommit=True) as looking,
    ):
        await holding.execute(f"SELECT 1 FROM {SCHEMA}.operations FOR UPDATE".encode())
        noting = asyncio.ensure_future(theirs.note(opened.id, charged_note("first"), namespace=SHOP))
        await until_waiting(looking, 1)
        saving = asyncio.ensure_future(ours.save(opened, token=token_of(opened), keep_lease=True))
        await until_waiting(looking, 2)
        await holding.rollback()
        await noting
        saved = await saving
    assert [note.event_id for note in saved.notes] == ["first"]
    await theirs.note(opened.id, charged_note("second"), namespace=SHOP)
    assert [note.event_id for note in (await got(ours, opened.id)).notes] == ["first", "second"]


@pytest.mark.asyncio
async def test_note_that_comes_while_a_worker_takes_is_kept(stores: Stores) -> None:
    """Due records are taken at the moment at which a fact about each comes in, again and again: no fact is lost."""
    _, ours, theirs = stores
    for round in range(ROUNDS):
        ids = [(await put(ours, queued(f"{round} {number}"))).id for number in range(RECORDS)]
        noting = [theirs.note(id, charged_note(f"note {round}"), namespace=SHOP) for id in ids]
        taking = [take(ours, limit=1) for _ in ids]
        await asyncio.gather(*(each for pair in zip(noting, taking, strict=True) for each in pair))
        lost = [id for id in ids if len((await got(ours, id)).notes) != 1]
        assert not lost
