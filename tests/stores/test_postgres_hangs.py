"""A server that hangs and comes back: whoever asked hears that nobody knows, and the next call works."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer
from tcp_proxy import Mode, proxied

from cxguard.errors import StoreUnavailable
from cxguard.stores.postgres import PostgresStore
from cxguard.testing.contract.base import PAY, SHOP, open_leased, sample, token_of

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

PATIENCE_SECONDS = 1.0
ACTIVE = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cxguard' AND state <> 'idle'"


@pytest.mark.parametrize("back_after_seconds", [0.1, 1.5])
async def test_server_that_comes_back_behind_our_patience_is_used_again(shared_postgres: PostgresServer, back_after_seconds: float) -> None:
    """Several statements are on their way when it hangs; its late answers leave no connection, and no lock, behind."""
    async with proxied("127.0.0.1", shared_postgres.port) as proxy:
        url = shared_postgres.url.replace(f":{shared_postgres.port}", f":{proxy.port}")
        store = PostgresStore(url, schema=f"u{secrets.token_hex(4)}", patience_seconds=PATIENCE_SECONDS)
        await store.start()
        leased = await open_leased(store, sample("a"))
        await asyncio.gather(*at_once(store, leased.id, token_of(leased), "warm"))
        proxy.mode = Mode.BLACK_HOLE
        asked = asyncio.gather(*at_once(store, leased.id, token_of(leased), "b"), return_exceptions=True)
        said = await asked
        assert {type(each) for each in said} == {StoreUnavailable}
        await asyncio.sleep(back_after_seconds)  # the very thing that is tried: when it comes back
        proxy.mode = Mode.PASS
        async with asyncio.timeout(5.0):
            while not await works(store):
                continue
        async with asyncio.timeout(5.0), await psycopg.AsyncConnection.connect(shared_postgres.url, autocommit=True) as connection:
            while await (await connection.execute(ACTIVE)).fetchone() != (0,):
                continue
        await store.stop()


def at_once(store: PostgresStore, id: str, token: int, name: str) -> list[Any]:
    """What travels together, statement behind statement."""
    return [
        store.renew({id: token}, lease_seconds=30.0),
        store.take(namespace=SHOP, rules=[PAY], holder="h", lease_seconds=30.0, limit=5),
        open_leased(store, sample(name)),
    ]


async def works(store: PostgresStore) -> bool:
    try:
        await open_leased(store, sample("after"), attempt="one")
        await store.take(namespace=SHOP, rules=[PAY], holder="h", lease_seconds=30.0, limit=5)
    except StoreUnavailable:
        await asyncio.sleep(0.05)
        return False
    return True
