"""A real standby that lagged is promoted: what was acknowledged and lost shows as another epoch, and nobody pays twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer, running_postgres, standby_of
from shopworld import SHOP

from cxguard.engine.library import Purpose
from cxguard.errors import StoreError
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.stores.base import Query
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.postgres.lines import DOWN_SECONDS
from cxguard.testing.contract.base import open_leased, sample, token_of
from cxguard.testing.fake_gateway import FakeGateway

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECRET, KEY = bytes(range(32)), bytes(range(32, 64))
LOOKS_MAX = 500  # each waits on the server for a moment


@contextmanager
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with running_postgres(options="-c wal_keep_size=64MB") as primary, standby_of(primary) as standby:
        yield primary, standby


def ask(server: PostgresServer, text: str) -> Any:
    with psycopg.connect(server.url, autocommit=True) as connection:
        found = connection.execute(text.encode())
        return next(iter(found.fetchone() or ()), None) if found.description else None


def until(server: PostgresServer, text: str, value: Any) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for _ in range(LOOKS_MAX):
            with suppress(psycopg.errors.UndefinedTable):  # a standby that has not heard yet of the tables
                if connection.execute(text.encode()).fetchone() == (value,):
                    return
            connection.execute("SELECT pg_sleep(0.02)")
    raise AssertionError(f"{text} never became {value}")


def fail_over(primary: PostgresServer, standby: PostgresServer) -> None:
    """The primary dies at once, and the standby takes over with what it has."""
    os.kill(primary.pid, signal.SIGQUIT)  # "immediate": no last words to the standby
    assert ask(standby, "SELECT pg_promote()")


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(4999, "EUR", source="tok_ok"))
    return {"payment": payment.payment_id}


async def test_lost_order_is_found_at_the_gateway() -> None:
    """Paid and acknowledged, then lost with the primary: the shopper presses again, and the ledger shows one charge."""
    gateway = FakeGateway(keyed=False, settle_seconds=0.0)
    with pair() as (primary, standby):
        url = f"postgresql://shop@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres?target_session_attrs=read-write"
        store = PostgresStore(url, patience_seconds=5.0)
        guard = Guard(store, shop=SHOP, gateways=[gateway], purposes=[Purpose("order", later=place)], secret=SECRET, keys=[KEY])
        async with guard:
            await guard.run(place, purpose="order", key="before", owner="ann")
            token = token_of(await open_leased(store, sample("held")))
            until(standby, "SELECT count(*) FROM cxguard.operations", 2)
            ask(standby, "ALTER SYSTEM SET primary_conninfo = ''")
            ask(standby, "SELECT pg_reload_conf()")
            until(standby, "SELECT count(*) FROM pg_stat_wal_receiver", 0)
            epoch = store.epoch
            paid = await guard.run(place, purpose="order", key="lost", owner="ann")
            fail_over(primary, standby)
            await until_there(store)
            assert len((await store.search(Query(namespace="shop", rule="order"))).operations) == 1, "the other one is lost"
            assert await guard.run(place, purpose="order", key="lost", owner="ann") == paid
            assert store.epoch != epoch
            assert token_of(await open_leased(store, sample("after"))) - token >= 2**32, "no token of the lost tail comes again"
    assert len(gateway.standing) == 2


async def until_there(store: PostgresStore) -> None:
    """All three connections have found it."""
    for _ in range(LOOKS_MAX):
        try:
            await open_leased(store, sample("probe"), attempt="one")
            await store.swap("probe", revision=0, value=b"")
            await store.clock()
            return
        except StoreError:
            await asyncio.sleep(DOWN_SECONDS / 4)  # as long as a failed connection is not tried again
    raise AssertionError("the promoted server was not found")

