"""What a cluster does: parts that move, servers that die, and partitions that know nothing of each other."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis_crowd import Shoppers, assert_whole, missing_of, until_available
from redis_servers import Cluster, RedisServer, have_redis, running_cluster, wait_until

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Level
from cxguard.stores.redis import RedisStore
from cxguard.stores.redis.partitions import tag
from cxguard.testing.contract.base import apart, put, take

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECONDS = 1.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_cluster() as running:
        yield running


def store_at(cluster: Cluster, options: str = "") -> RedisStore:
    return RedisStore(cluster.url + options, prefix=f"c{secrets.token_hex(6)}", answer_seconds=SECONDS)


async def test_partition_that_moves_under_load_keeps_every_order_whole(cluster: Cluster) -> None:
    """A slot goes from one server to another, key by key: what is asked meanwhile happens whole or not at all."""
    store = store_at(cluster)
    await store.start()
    shoppers = Shoppers(store, count=10)
    await shoppers.until(500)
    for partition in range(4):
        await move_slot(cluster, f"{{{store.prefix}:{partition}}}:m", between=lambda: shoppers.until(20))
    await shoppers.until(200)
    await shoppers.end()
    assert any("moving" in text for text in shoppers.refusals)
    assert await shoppers.missing() == []
    await assert_whole(store)
    taken = [each.id for _ in range(300) for each in await take(store, limit=100)]
    assert len(taken) == len(set(taken)) >= len(shoppers.acknowledged)
    await store.stop()


async def move_slot(cluster: Cluster, key: str, *, between: Callable[[], Awaitable[None]]) -> None:
    """Move a key's slot to another primary, a few keys at a time, and let others work in between."""
    source = cluster.primary_of(key)
    slot = source.run("CLUSTER", "KEYSLOT", key)
    target = next(each for each in cluster.servers if each is not source and each.run("ROLE")[0] == b"master")
    names = {server: server.run("CLUSTER", "MYID").decode() for server in (source, target)}
    target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, 50):
        source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        await between()
    for server in (target, source, *cluster.servers):
        if server.run("ROLE")[0] == b"master":
            server.run("CLUSTER", "SETSLOT", slot, "NODE", names[target])


async def test_dead_primary_costs_its_own_part_and_is_replaced(cluster: Cluster) -> None:
    """While one primary is away, the first in the address, the owners elsewhere are served; its replica takes over, with another epoch."""
    store = store_at(cluster, "?replicas=1")
    await store.start()
    epoch = store.epoch
    shoppers = Shoppers(store, count=10)
    await shoppers.until(300)
    victim = cluster.servers[0]
    lost = key_at(store, cluster, victim)
    await asyncio.to_thread(victim.kill)
    await asyncio.to_thread(wait_until, lambda: replaced(cluster, victim, lost))
    await asyncio.to_thread(victim.start)  # its successor's replica: without one nothing of this part counts
    await until_available(store, "probe", spread=200)
    await shoppers.until(200)
    await shoppers.end()
    assert shoppers.refusals
    assert await shoppers.missing() == []
    assert store.epoch != epoch
    await store.stop()


def key_at(store: RedisStore, cluster: Cluster, server: RedisServer) -> str:
    """The key of a partition that a server has now."""
    keys = [tag(store.prefix, partition) + "m" for partition in range(store.partitions)]
    return next(key for key in keys if cluster.primary_of(key) is server)


def replaced(cluster: Cluster, victim: RedisServer, key: str) -> bool:
    """Whether somebody who lives has the victim's part."""
    return cluster.primary_of(key) is not victim


async def test_cluster_without_a_part_of_its_slots_is_unavailable_not_empty() -> None:
    """A primary without a replica dies: what it had is "nobody knows", never "free"; when it is back, all is there."""
    with running_cluster(replicas=0) as cluster:
        store = store_at(cluster)
        await store.start()
        assert store.level is Level.BEST_EFFORT
        for n in range(100):
            await put(store, apart(f"n{n}"))
        victim = cluster.servers[1]
        await asyncio.to_thread(victim.kill)
        answers = await asyncio.gather(*(put(store, apart(f"n{n}")) for n in range(100)), return_exceptions=True)
        assert any(isinstance(answer, StoreUnavailable) for answer in answers)
        with pytest.raises(StoreUnavailable):
            await store.tally("shop")
        victim.start()
        await until_available(store, "probe", spread=200)
        assert await missing_of(store, [f"n{n}" for n in range(100)]) == []
        await store.stop()
