"""A transaction that is not ours holds one record for long: whoever needs it hears so, and nobody else waits behind them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
import pytest
import pytest_asyncio
from postgres_server import PostgresServer

from cxguard.clock import SystemClock
from cxguard.core.operation import Operation, State, changed
from cxguard.engine.store_breaker import LATE_SECONDS, breaker_around
from cxguard.errors import StoreUnavailable
from cxguard.events import Bus
from cxguard.stores.base import Match, Opened, Seen, Store
from cxguard.stores.postgres import PostgresStore, writing
from cxguard.stores.postgres import store as postgres_store
from cxguard.testing.contract.base import SHOP, charged_note, open_leased, sample, token_of

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest.fixture
def server(shared_postgres: PostgresServer) -> PostgresServer:
    return shared_postgres


@pytest.fixture
def schema() -> str:
    return f"h{secrets.token_hex(6)}"


@pytest_asyncio.fixture
async def store(server: PostgresServer, schema: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(server.url, schema=schema)
    await store.start()
    yield store
    await store.stop()


@asynccontextmanager
async def held(server: PostgresServer, schema: str, operation: Operation) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The shop's own transaction has the record in hand."""
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        await connection.execute(f"SELECT 1 FROM {schema}.operations WHERE id = %s FOR UPDATE".encode(), (operation.id,))
        yield connection


async def test_note_waits_for_the_transaction_and_is_there(
    store: PostgresStore, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook for an order whose transaction takes a while longer than a lock is waited for."""
    monkeypatch.setattr(writing, "LOCK_SECONDS", 1.5)  # long enough to be seen
    first = await open_leased(store, sample("a"))
    async with held(server, schema, first) as connection:
        noting = asyncio.ensure_future(store.note(first.id, charged_note(), namespace=SHOP))
        for waits in (True, False):  # it waited, and waits for the lock no longer
            while await waiting(server) is not waits:
                continue
        await connection.rollback()
    assert len((await noting).notes) == 1


async def waiting(server: PostgresServer) -> bool:
    """Whether one of the store's connections waits for a lock."""
    text = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'cxguard' AND wait_event = 'transactionid'"
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        return await (await connection.execute(text.encode())).fetchone() is not None


async def test_others_in_the_same_batch_do_not_fail(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """Twenty notes at once, one of them about the record that is held: the others are there long before it is free."""
    first, *others = [await open_leased(store, sample(f"n{n}")) for n in range(20)]
    async with held(server, schema, first):
        noting = asyncio.ensure_future(store.note(first.id, charged_note(), namespace=SHOP))
        noted = await asyncio.gather(*(store.note(each.id, charged_note(), namespace=SHOP) for each in others))
        assert [len(each.notes) for each in noted] == [1] * len(others)
        assert not noting.done()
    assert len((await noting).notes) == 1


async def test_record_that_stays_held_is_unavailable(
    store: PostgresStore, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact about an order whose transaction hangs is refused, and nothing of it was written: its sender repeats it."""
    monkeypatch.setattr(postgres_store, "HELD_SECONDS", 0.2)
    first = await open_leased(store, sample("a"))
    async with held(server, schema, first):
        with pytest.raises(StoreUnavailable, match="holds this record"):
            await store.note(first.id, charged_note(), namespace=SHOP)
    found = await store.get(first.id)
    assert found is not None
    assert found.notes == ()


async def test_lapsed_record_that_is_held_is_not_won(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """Who would take over an order whose transaction hangs hears within a moment that somebody is at it."""
    first = await open_leased(store, sample("a"))
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        await connection.execute(f"UPDATE {schema}.operations SET lease_until = 0".encode())
    async with held(server, schema, first):
        began = time.monotonic()
        opened = await store.seize(Seen(first.id, first.revision), holder="h", attempt="x", lease_seconds=5.0)
        assert time.monotonic() - began < 3 * writing.LOCK_SECONDS
        assert (opened.won, opened.leased, opened.match) == (False, True, Match.ID)
    assert (await store.seize(Seen(first.id, first.revision), holder="h", attempt="y", lease_seconds=5.0)).won


async def test_purchase_whose_record_is_held_is_told_by_it(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """A second tab with the same purchase, while the first one's transaction hangs: it is found, and nothing is opened beside it."""
    first = await open_leased(store, sample("a", claims=("basket",)))
    async with held(server, schema, first):
        opened = await store.open(sample("b", claims=("basket",)), holder="h", attempt="x", lease_seconds=5.0)
        assert (opened.won, opened.match, opened.claim, opened.operation.id) == (False, Match.CLAIM, "basket", first.id)
        fresh = await store.open(sample("c", claims=("other",)), holder="h", attempt="x", lease_seconds=5.0)
        assert fresh.won
    await store.save(changed(first, claims=()), token=token_of(first), keep_lease=False)
    assert (await store.open(sample("b", claims=("basket",)), holder="h", attempt="z", lease_seconds=5.0)).won


async def ended(store: PostgresStore, name: str, *claims: str) -> Operation:
    first = await open_leased(store, sample(name, claims=claims))
    return await store.save(changed(first, state=State.FINISHED), token=token_of(first), keep_lease=False)


async def opening(store: Store, *superseding: Operation) -> Opened:
    """An order that claims its basket, and its basket at its price."""
    over = [Seen(each.id, each.revision) for each in superseding]
    return await store.open(sample("c", claims=("basket", "price")), holder="h", attempt="x", lease_seconds=5.0, superseding=over)


async def test_held_record_is_found_past_one_that_is_superseded(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """One order has the basket, and gives way; another one has it at this price, and its transaction hangs: that one is told."""
    newer, first = await ended(store, "b", "basket"), await ended(store, "a", "price")
    async with held(server, schema, first):
        opened = await opening(store, newer)
        assert (opened.won, opened.leased, opened.claim, opened.operation.id) == (False, True, "price", first.id)


async def test_record_that_nobody_holds_is_told_as_it_is(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """Nobody is at work on the order that has the basket, whoever hangs over the one that has it at this price."""
    newer, first = await ended(store, "b", "basket"), await ended(store, "a", "price")
    async with held(server, schema, first):
        opened = await opening(store)
        assert (opened.won, opened.leased, opened.claim, opened.operation.id) == (False, False, "basket", newer.id)


async def test_order_of_ours_does_not_hide_the_held_one_that_has_its_purchase(
    store: PostgresStore, server: PostgresServer, schema: str
) -> None:
    """It is found as it is, and who would go on with it hears of the other one."""
    own, first = await ended(store, "c"), await ended(store, "a", "basket")
    async with held(server, schema, first):
        opened = await opening(store)
        assert (opened.won, opened.leased, opened.match, opened.operation.id) == (False, False, Match.ID, own.id)
        seized = await store.seize(Seen(own.id, own.revision), holder="h", attempt="y", lease_seconds=5.0, claims=("basket", "price"))
        assert (seized.won, seized.leased, seized.claim, seized.operation.id) == (False, True, "basket", first.id)


async def test_held_record_that_is_to_be_superseded_is_waited_for(store: PostgresStore, server: PostgresServer, schema: str) -> None:
    """Nobody is told of it again and again: it gives way once its transaction is over, if that has changed nothing."""
    first = await ended(store, "a", "basket")
    async with held(server, schema, first) as connection:
        asked = asyncio.ensure_future(opening(store, first))
        for waits in (True, False):  # it waited, and waits for the lock no longer
            while await waiting(server) is not waits:
                continue
        await connection.rollback()
    opened = await asked
    assert (opened.won, opened.operation.claims) == (True, ("basket", "price"))


async def test_transaction_that_hangs_does_not_pass_for_a_store_that_is_away(
    store: PostgresStore, server: PostgresServer, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who needs its record is told so; all other shoppers go on."""
    monkeypatch.setattr(postgres_store, "HELD_SECONDS", LATE_SECONDS)
    breaker = breaker_around(store, SystemClock(), bus=Bus(), confirm=right)
    await breaker.start()
    first = await ended(store, "a", "basket")
    async with held(server, schema, first):
        with pytest.raises(StoreUnavailable, match="holds this record"):
            await opening(cast(Store, breaker), first)
        assert not breaker.away


async def right(store: Store) -> None:
    """It is the right store."""
