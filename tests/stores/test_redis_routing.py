"""What a store knows of its servers may be old: each test makes it so, and asks for the right answer, or none, in its time."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from redis_crowd import missing_of, until_available
from redis_servers import (
    Cluster,
    RedisServer,
    Sentinels,
    free_port,
    have_redis,
    is_in_step,
    run_at,
    running_cluster,
    running_redis,
    running_sentinels,
    sentinel_at,
    serves_all,
    wait_until,
)

from cxguard.errors import StoreUnavailable
from cxguard.stores.base import Match, Opened
from cxguard.stores.redis import RedisStore
from cxguard.stores.redis.partitions import partition_of, tag
from cxguard.testing.contract.base import LEASE_SECONDS, apart, open_leased, put, queued

pytestmark = [pytest.mark.server, pytest.mark.asyncio]

SECONDS = 0.5
TIME_SECONDS = 15.0  # for a right answer, after any number of "nobody knows": a failover takes two or three
OWNERS = [f"o{n}" for n in range(60)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if not have_redis():
        pytest.skip("no Redis here")
    with running_cluster() as running:
        yield running


def store_at(url: str, prefix: str = "") -> RedisStore:
    return RedisStore(f"{url}?replicas=1", prefix=prefix or f"q{secrets.token_hex(6)}", answer_seconds=SECONDS)


async def test_client_that_has_not_looked_since_a_failover_wins_nothing_twice(cluster: Cluster) -> None:
    """Roles change, and change back, behind an idle client: it finds each order where it is now, and its epoch says that it has looked."""
    busy = store_at(cluster.url)
    idle = store_at(cluster.url, busy.prefix)
    await busy.start()
    await idle.start()
    names, epochs = owners_at(busy, cluster, cluster.servers[0])[:3], [idle.epoch]
    for name in names:
        await until_available(busy, f"before {name}", spread=20)
        await open_leased(busy, apart(name), attempt="one")
        await asyncio.to_thread(change_roles, cluster, key_of(busy, name))
        other = await opened_in_time(idle, name)
        assert (other.won, other.match) == (False, Match.ID)
        epochs.append(idle.epoch)
    assert len(set(epochs)) == len(epochs)
    assert await missing_of(idle, names) == []
    await busy.stop()
    await idle.stop()


async def test_cluster_is_found_when_every_server_of_the_address_is_gone_for_good(cluster: Cluster) -> None:
    """The only server in the settings is dead, and every connection is cut: the others are known, in this event loop and in a new one."""
    seed = cluster.servers[0]
    store = store_at(f"redis+cluster://127.0.0.1:{seed.port}")
    await store.start()
    lost = owners_at(store, cluster, seed)
    elsewhere = [name for name in OWNERS if name not in lost]
    await asyncio.gather(*(put(store, apart(name)) for name in elsewhere))
    await asyncio.to_thread(seed.kill)
    for server in cluster.servers[1:]:
        server.run("CLIENT", "KILL", "TYPE", "normal")
    for name in elsewhere:
        assert not (await opened_in_time(store, name)).won
    again = await asyncio.to_thread(asyncio.run, opened_in_time(store, elsewhere[0]))
    assert not again.won
    await store.stop()


async def test_server_that_is_cut_off_from_its_cluster_is_not_believed(cluster: Cluster) -> None:
    """The first server of the address still thinks that it has a part: a client that begins asks the others, too."""
    first = store_at(cluster.url)
    await first.start()
    await asyncio.gather(*(put(first, apart(name)) for name in OWNERS))
    await first.stop()
    victim = cluster.servers[0]
    key = key_of(first, owners_at(first, cluster, victim)[0])
    await asyncio.to_thread(victim.kill)
    cut_off(victim)
    await asyncio.to_thread(wait_until, lambda: cluster.primary_of(key) is not victim and all(map(serves_all, cluster.servers[1:])))
    await asyncio.to_thread(victim.start)
    assert victim.run("CLUSTER", "COUNTKEYSINSLOT", victim.run("CLUSTER", "KEYSLOT", key)) > 0
    second = store_at(cluster.url, first.prefix)
    async with asyncio.timeout(TIME_SECONDS):
        await second.start()
    assert await missing_of(second, OWNERS) == []
    await second.stop()


async def test_sentinel_that_has_not_heard_of_the_failover_is_not_believed(tmp_path: Path) -> None:
    """One Sentinel, the first that is asked, names a server that the others have replaced: the newest word counts."""
    if not have_redis():
        pytest.skip("no Redis here")
    port = free_port()
    with running_sentinels() as known, running_redis() as left:
        stale = sentinel_at(tmp_path, port, left.port)
        try:
            await asyncio.to_thread(wait_until, lambda: is_in_step(known.primary))
            await asyncio.to_thread(wait_until, lambda: hands_over(known))
            await asyncio.to_thread(wait_until, lambda: all(primary_by(each, known.service) == known.replica.port for each in known.ports))
            store = RedisStore(known.url.replace("://", f"://127.0.0.1:{port},"), prefix="stale", answer_seconds=SECONDS)
            async with asyncio.timeout(TIME_SECONDS):
                await store.start()
            await put(store, queued("a"))
            assert left.run("DBSIZE") == 0
            await store.stop()
        finally:
            stale.stop()


def key_of(store: RedisStore, name: str) -> str:
    """A key of the partition that has an owner's orders."""
    return tag(store.prefix, partition_of(apart(name).id, store.partitions)) + "m"


def owners_at(store: RedisStore, cluster: Cluster, server: RedisServer) -> list[str]:
    return [name for name in OWNERS if cluster.primary_of(key_of(store, name)) is server]


def change_roles(cluster: Cluster, key: str) -> None:
    """A primary and its replica, as an administrator does it: nothing is lost, and no connection ends."""
    primary = cluster.primary_of(key)
    wait_until(lambda: is_in_step(primary))
    _, port, _ = primary.run("ROLE")[2][0]
    replica = next(each for each in cluster.servers if each.port == int(port))
    replica.run("CLUSTER", "FAILOVER")
    wait_until(lambda: replica.run("ROLE")[0] == b"master" and is_in_step(replica))


def hands_over(sentinels: Sentinels) -> bool:
    """Whether a Sentinel was ready to begin a failover."""
    try:
        return bool(run_at(sentinels.ports[0], "SENTINEL", "FAILOVER", sentinels.service))
    except ResponseError:  # it has not heard of the replica yet
        return False


def primary_by(sentinel: int, service: str) -> int:
    return int(run_at(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)[1])


def cut_off(server: RedisServer) -> None:
    """Let a dead server find none of its peers when it starts again, and know none that finds it."""
    file = server.folder / "nodes.conf"
    lines = file.read_text("ascii").splitlines()
    others = [re.sub(r"@\d+", "@9", line) for line in lines if "myself" not in line]
    own = [line for line in lines if "myself" in line]
    names = {line.split()[0] for line in others if line[:4] != "vars"}
    text = "\n".join((*own, *others)) + "\n"
    for name in names:
        text = text.replace(name, name[::-1])
    file.write_text(text, "ascii")


async def opened_in_time(store: RedisStore, name: str) -> Opened:
    """What a second submit of somebody else hears, once anything is known."""
    async with asyncio.timeout(TIME_SECONDS):
        while True:
            try:
                return await store.open(apart(name), holder="other", attempt="two", lease_seconds=LEASE_SECONDS)
            except StoreUnavailable:
                await asyncio.sleep(0.01)
