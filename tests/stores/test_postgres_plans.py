"""What PostgreSQL reads for one record does not grow with the number of records."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import psycopg
import pytest
from postgres_server import PostgresServer, running_postgres

from cxguard.core.operation import Operation, State, changed
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import PAY, SHOP, queued

pytestmark = pytest.mark.server
RECORDS, AT_ONCE = 1_500, 10
ENTRIES_EACH_MAX = 30  # of all indexes, for accepting, taking, renewing and ending one record: it is nine


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.mark.asyncio
async def test_a_record_costs_no_more_for_those_that_are_there(server: PostgresServer) -> None:
    """Plans are made on empty tables and kept: not one of them may read a table from one end to the other."""
    store = PostgresStore(server.url)
    await store.start()
    for first in range(0, RECORDS, AT_ONCE):
        fresh = [_order(number) for number in range(first, first + AT_ONCE)]
        opened = await asyncio.gather(*(store.open(each, holder="shop", attempt=each.id, lease_seconds=None) for each in fresh))
        assert all(one.won for one in opened)
    for _ in range(0, RECORDS, AT_ONCE):
        taken = await store.take(namespace=SHOP, rules=[PAY], holder="worker", lease_seconds=30, limit=AT_ONCE)
        tokens = {each.id: each.lease.token for each in taken if each.lease is not None}
        assert len(tokens) == AT_ONCE
        assert await store.renew(tokens, lease_seconds=30) == frozenset()
        ended = (changed(each, state=State.CANCELLED, due_at=None, claims=()) for each in taken)
        await asyncio.gather(*(store.save(each, token=tokens[each.id], keep_lease=False) for each in ended))
    await store.stop()
    assert _entries_read(server) < ENTRIES_EACH_MAX * RECORDS


def _order(number: int) -> Operation:
    id = hashlib.sha256(str(number).encode()).hexdigest()
    return changed(queued(str(number)), id=id, due_at=1.0, claims=(f"p-{id[:40]}",))


def _entries_read(server: PostgresServer) -> int:
    """By all indexes of our tables, once the store's connections have ended: what they did is counted then."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cxguard'").fetchone() != (0,):
            pass
        row = connection.execute("SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE schemaname = 'cxguard'").fetchone()
    assert row is not None
    return int(row[0])
