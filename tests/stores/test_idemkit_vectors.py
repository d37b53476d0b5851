"""The vectors that idemkit publishes for backends, on each of our stores. `idemkit_shim` says what is mapped to what."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from idemkit.conformance import BackendConformance
from idemkit_shim import FastClock, IdemkitBackend
from postgres_server import running_postgres
from redis_servers import running_cluster, running_redis

from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.postgres import PostgresStore
from cxguard.stores.redis import RedisStore
from cxguard.stores.sqlite import SQLiteStore

VECTORS = 13


async def judged(store: Store) -> None:
    await store.start()
    try:
        report = await BackendConformance(IdemkitBackend(store)).run()
    finally:
        await store.stop()
    assert report.passed, report.report()
    assert report.total == VECTORS


@pytest.mark.asyncio
async def test_memory_passes_every_vector() -> None:
    """Claims, fences, leases, waits and expiry in memory."""
    await judged(MemoryStore(clock=FastClock()))


@pytest.mark.asyncio
async def test_sqlite_passes_every_vector(tmp_path: Path) -> None:
    """The same in a SQLite file."""
    await judged(SQLiteStore(tmp_path / "shop.db", clock=FastClock()))


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with running_postgres() as server:
        yield server.url


@pytest.mark.server
@pytest.mark.asyncio
async def test_postgres_passes_every_vector(postgres_url: str) -> None:
    """The same on a PostgreSQL server."""
    await judged(PostgresStore(postgres_url, schema=f"v{secrets.token_hex(6)}", clock=FastClock()))


@pytest.mark.server
@pytest.mark.asyncio
async def test_redis_passes_every_vector() -> None:
    """The same on a Redis server."""
    with running_redis() as server:
        await judged(RedisStore(server.url, clock=FastClock()))


@pytest.mark.server
@pytest.mark.asyncio
async def test_redis_cluster_passes_every_vector() -> None:
    """The same on a cluster of three."""
    with running_cluster(replicas=0) as cluster:
        await judged(RedisStore(cluster.url, clock=FastClock()))
