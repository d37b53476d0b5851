"""The Redis store keeps the contract, on one server, behind Sentinel and on a cluster."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import redis.asyncio
from redis_servers import Cluster, RedisServer, Sentinels, have_redis, running_cluster, running_redis, running_sentinels

from cxguard.stores.base import SessionBatch, SessionRow, gathers
from cxguard.stores.memory import MemoryStore
from cxguard.stores.reading import ReadingStore
from cxguard.stores.redis import RedisStore
from cxguard.testing.clock import ManualClock
from cxguard.testing.contract.base import StoreFactory
from cxguard.testing.contract.hinting import HintingContract
from cxguard.testing.faulty_store import FaultyStore
from cxguard.testing.store_contract import StoreContract

SECONDS = 5.0  # this machine has other things to do


def stores_at(url: str) -> StoreFactory:
    prefix = f"t{secrets.token_hex(6)}"
    return lambda clock: RedisStore(url, clock=clock, prefix=prefix, answer_seconds=SECONDS)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_redis(appendfsync="everysec") as running:
        yield running


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_cluster(appendfsync="everysec") as running:
        yield running


@pytest.fixture(scope="session")
def redis_sentinels() -> Iterator[Sentinels]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_sentinels() as running:
        yield running


@pytest.mark.server
class TestRedisStore(StoreContract, HintingContract):
    @pytest.fixture
    def store_factory(self, redis_server: RedisServer) -> StoreFactory:
        return stores_at(redis_server.url)


@pytest.mark.server
class TestPartitionedRedis(StoreContract):
    """With what belongs to one owner kept apart, as in a cluster."""

    @pytest.fixture
    def store_factory(self, redis_server: RedisServer) -> StoreFactory:
        return stores_at(f"{redis_server.url}?partitions=7")


@pytest.mark.server
class TestRedisCluster(StoreContract, HintingContract):
    @pytest.fixture
    def store_factory(self, redis_cluster: Cluster) -> StoreFactory:
        return stores_at(redis_cluster.url)


@pytest.mark.server
class TestReplicatedRedis(StoreContract):
    """With every write waited for until a replica has it, behind Sentinel."""

    @pytest.fixture
    def store_factory(self, redis_sentinels: Sentinels) -> StoreFactory:
        return stores_at(f"{redis_sentinels.url}?replicas=1")


@pytest.mark.asyncio
@pytest.mark.server
async def test_server_clears_a_session_away_400_days_after_its_last_word(redis_server: RedisServer) -> None:
    """Each writing begins the time anew; the server does the rest by itself."""
    prefix = f"t{secrets.token_hex(6)}"
    store = RedisStore(redis_server.url, prefix=prefix, answer_seconds=SECONDS)
    await store.start()
    left = []
    async with redis.asyncio.from_url(redis_server.url) as client:
        for number in range(2):
            await store.record(SessionBatch(f"b{number}", (SessionRow("s1", number, b"body", 1.0),)))
            (key,) = [key async for key in client.scan_iter(f"*{prefix}*s:s1")]
            left.append(await client.ttl(key))
            await client.expire(key, 60)
    await store.stop()
    assert all(399 * 86_400 < seconds <= 400 * 86_400 for seconds in left)


def test_store_around_another_names_operations_as_that_one_does() -> None:
    """Whoever wraps a cluster's store must find its records: the ids are led by their owners there, and nowhere else."""
    clock = ManualClock()
    for url, led in (("redis+cluster://h1,h2", True), ("redis://h1", False), ("redis://h1?partitions=4", True)):
        store = RedisStore(url, clock=clock)
        assert [gathers(each) for each in (store, ReadingStore(store), FaultyStore(store))] == [led] * 3
    assert not gathers(FaultyStore(MemoryStore(clock=clock)))
