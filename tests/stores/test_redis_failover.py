"""Replicas: what is waited for, what is lost without waiting, and a failover by Sentinel."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest
from cut_wire import cut_wire
from redis_crowd import Shoppers, missing_of, until_available
from redis_servers import Sentinels, have_redis, is_in_step, running_redis, running_sentinels, wait_until

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Level, Match
from cxguard.stores.redis import RedisStore
from cxguard.testing.contract.base import LEASE_SECONDS, open_leased, put, queued, sample, token_of

pytestmark = [pytest.mark.long, pytest.mark.server, pytest.mark.asyncio]

SECONDS = 0.5


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_sentinels() as running:
        yield running


def store_at(url: str, **settings: object) -> RedisStore:
    return RedisStore(url, prefix=f"r{secrets.token_hex(6)}", **{"answer_seconds": SECONDS, **settings})


async def test_write_that_no_replica_has_is_not_acknowledged() -> None:
    """The replica stands still: the open is unknown, never free for another; when the replica is back, it is the same win."""
    with running_redis() as primary, running_redis(replicaof=f"127.0.0.1 {primary.port}") as replica:
        await asyncio.to_thread(wait_until, lambda: is_in_step(primary))
        store = store_at(f"{primary.url}?replicas=1")
        await store.start()
        assert store.level is Level.REPLICATED
        await put(store, queued("before"))
        replica.process.pause()
        try:
            with pytest.raises(StoreUnavailable, match="only 0 of 1 replicas"):
                await open_leased(store, sample("a"), attempt="one")
            found = await store.get(sample("a").id)
            assert found is not None and found.lease is not None
        finally:
            replica.process.resume()
        await until_available(store, "after")
        again = await open_leased(store, sample("a"), attempt="one")
        assert token_of(again) == found.lease.token
        other = await store.open(sample("a"), holder="h", attempt="two", lease_seconds=LEASE_SECONDS)
        assert (other.won, other.match) == (False, Match.ID)
        await store.stop()


@pytest.mark.parametrize("waits", [True, False])
async def test_promoted_replica_has_what_was_waited_for(waits: bool) -> None:
    """The primary is killed, and a replica behind a slow line takes over: with `?replicas=1` nothing acknowledged is lost.

    Without, orders are lost; that is why such a store calls itself best-effort behind Sentinel.
    """
    with running_redis() as primary:
        async with cut_wire(primary.port) as line:
            with running_redis(replicaof=f"127.0.0.1 {line.port}") as replica:
                await asyncio.to_thread(wait_until, lambda: is_in_step(primary))
                line.answers_delay_seconds = 0.05
                store = store_at(f"{primary.url}{'?replicas=1' if waits else ''}", answer_seconds=2.0)
                await store.start()
                shoppers = Shoppers(store, count=20)
                await shoppers.until(300)
                await asyncio.to_thread(primary.kill)
                await shoppers.end()
                await store.stop()
                replica.run("REPLICAOF", "NO", "ONE")
                heir = RedisStore(replica.url, prefix=store.prefix, answer_seconds=2.0)
                await heir.start()
                assert heir.epoch != store.epoch
                assert (await missing_of(heir, shoppers.acknowledged) == []) is waits
                await heir.stop()


async def test_sentinel_fails_over_and_the_shop_goes_on(sentinels: Sentinels) -> None:
    """The primary dies: a few seconds of "nobody knows", then the next one, with everything acknowledged and another epoch."""
    await asyncio.to_thread(wait_until, lambda: is_in_step(sentinels.primary))
    store = store_at(f"{sentinels.url}?replicas=1")
    await store.start()
    epoch, shoppers = store.epoch, Shoppers(store, count=10)
    await shoppers.until(200)
    await asyncio.to_thread(sentinels.primary.kill)
    await asyncio.to_thread(wait_until, lambda: sentinels.replica.run("ROLE")[0] == b"master")
    with pytest.raises(StoreUnavailable, match="replicas of this Redis have it"):  # the new primary has none yet
        await once_answered(store)
    sentinels.primary.start()  # Sentinel makes it the new one's replica
    await until_available(store, "after")
    await shoppers.end()
    assert await shoppers.missing() == []
    assert store.epoch != epoch
    await store.stop()


async def once_answered(store: RedisStore) -> None:
    """Ask until a server says something, be it that it has no replicas."""
    async with asyncio.timeout(40):
        while True:
            try:
                await put(store, queued("waits"))
                return
            except StoreUnavailable as error:
                if "replicas of this Redis" in str(error):
                    raise
                await asyncio.sleep(0.02)


async def test_thawed_primary_acknowledges_nothing_once_another_has_taken_over(sentinels: Sentinels) -> None:
    """Split brain: a primary that was frozen, and does not know of its successor, cannot acknowledge what nobody else has."""
    await asyncio.to_thread(wait_until, lambda: is_in_step(sentinels.primary))
    store = store_at(f"{sentinels.primary.url}?replicas=1")  # a client that knows only the old one
    await store.start()
    await put(store, queued("before"))
    sentinels.primary.process.pause()
    await asyncio.to_thread(wait_until, lambda: sentinels.replica.run("ROLE")[0] == b"master")
    sentinels.primary.process.resume()
    for n in range(20):
        with pytest.raises(StoreUnavailable):
            await put(store, queued(f"n{n}"))
    await store.stop()


async def test_replica_is_not_taken_for_a_primary() -> None:
    """A replica's own address is refused as unavailable; a primary that becomes one is noticed at the next write."""
    with running_redis() as primary, running_redis() as other:
        store = store_at(primary.url)
        await store.start()
        await put(store, queued("a"))
        primary.run("REPLICAOF", "127.0.0.1", str(other.port))
        with pytest.raises(StoreUnavailable, match="replica"):
            await put(store, queued("b"))
        with pytest.raises(StoreUnavailable, match="give the primary's address"):
            await store_at(primary.url).start()
        await store.stop()
