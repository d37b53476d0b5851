"""Canaries on the stores that are servers, and in a spool: what these keep is read whole, and no secret is in it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import redis
from canaryworld import ASYNC, Place, canary_places, leaks
from psycopg import sql

from cxguard.stores.memory import MemoryStore
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.redis import RedisStore
from cxguard.testing import Fault, FaultyStore, ManualClock

pytestmark = pytest.mark.asyncio
CARD = "4111 1111 1111 1111"


@pytest_asyncio.fixture
async def place_of(tmp_path: Path) -> AsyncIterator[Any]:
    async with canary_places(tmp_path) as made:
        yield made


async def assert_silent(place: Place, rows: int) -> None:
    """After a day, after the night, and with a card that was refused: the server has records, and no canary in them."""
    await place.a_day()
    await place.pay(key="card", note=f"my card is {CARD}", **ASYNC)
    assert leaks(await place.sinks()) == []
    await place.rest()
    found = await place.sinks()
    assert leaks(found) == []
    assert sum(len(each) for name, each in found.items() if name.startswith("server ")) > rows, "the records were read"


@pytest.mark.server
async def test_postgresql_keeps_no_canary(place_of: Any, postgres_url: str) -> None:
    """Each row of each table of the schema, as text, and the bytes of each sealed part."""
    schema, clock = f"canary_{secrets.token_hex(4)}", ManualClock()
    place = await place_of(PostgresStore(postgres_url, schema=schema, clock=clock), clock=clock)

    async def kept() -> dict[str, bytes]:
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
            tables = await (await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])).fetchall()
            found = {}
            for (table,) in tables:
                rows = await (await connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, table)))).fetchall()
                found[f"server {table}"] = b"\n".join(_bytes(cell) for row in rows for cell in row)
            return found

    place.more = kept
    await assert_silent(place, 5_000)


@pytest.mark.server
async def test_redis_keeps_no_canary(place_of: Any, redis_url: str) -> None:
    """Each key and each value below the prefix, whatever its kind."""
    prefix, clock = f"canary{secrets.token_hex(4)}", ManualClock()
    place = await place_of(RedisStore(redis_url, prefix=prefix, clock=clock, answer_seconds=5.0), clock=clock)

    async def kept() -> dict[str, bytes]:
        client = redis.Redis.from_url(redis_url)
        try:
            return {f"server {key!r}": key + _value(client, key) for key in client.scan_iter(f"*{prefix}*", count=1000)}
        finally:
            client.close()

    place.more = kept
    await assert_silent(place, 5_000)


async def test_a_spool_keeps_no_canary(place_of: Any, tmp_path: Path) -> None:
    """An order that waits in the file for its store lies there sealed, and one with a card is not taken in."""
    clock = ManualClock()
    store = FaultyStore(MemoryStore(clock=clock))
    place = await place_of(store, clock=clock, spool=tmp_path / "spool.db")
    store.decide = lambda verb: Fault.NOT_DONE if verb != "stop" else None
    saved = [await place.pay(key=key, **ASYNC) for key in ("a", "b")]
    refused = await place.pay(key="card", note=f"my card is {CARD}", **ASYNC)
    assert ([each.status_code for each in saved], refused.status_code) == ([202, 202], 503)
    found = place.on_disk()
    assert len(found["spool.db"]) + len(found.get("spool.db-wal", b"")) > 5_000
    assert leaks(found) == []


def _bytes(cell: Any) -> bytes:
    return bytes(cell) if isinstance(cell, bytes | memoryview) else repr(cell).encode()


def _value(client: Any, key: bytes) -> bytes:
    match client.type(key):
        case b"hash":
            return b"\n".join(part for pair in client.hgetall(key).items() for part in pair)
        case b"zset":
            return b"\n".join(client.zrange(key, 0, -1))
        case b"set":
            return b"\n".join(client.smembers(key))
        case b"list":
            return b"\n".join(client.lrange(key, 0, -1))
        case b"string":
            return client.get(key) or b""
        case other:
            raise AssertionError(f"a kind that is not read here: {other!r}")
