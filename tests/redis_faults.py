"""What a Redis store goes through while shoppers press the button: `server_faults`, and what only Redis can do to us."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from redis_servers import Cluster, RedisServer, running_cluster, wait_until
from server_faults import AWAY_SECONDS, BEGIN_SECONDS, Fault, Ground, faults_of, on
from store_machines import RedisMachine, redis_machine
from tcp_proxy import Mode, TcpProxy, proxied

LINK_DELAY_SECONDS = 0.02  # between a primary and its replica


# --- a cluster


async def _slot_moved(cluster: Cluster) -> None:
    """All the slots that our records are in, one after another, to the next server, while they are used."""
    await asyncio.sleep(BEGIN_SECONDS)
    source, target = cluster.servers[0], cluster.servers[1]
    for slot in await asyncio.to_thread(_slots_in_use, source):
        await asyncio.to_thread(_move_slot, cluster, slot, source, target)


def _slots_in_use(server: RedisServer) -> list[int]:
    return sorted({int(server.run("CLUSTER", "KEYSLOT", key)) for key in server.run("KEYS", "*")})


def _move_slot(cluster: Cluster, slot: int, source: RedisServer, target: RedisServer) -> None:
    theirs, ours = (server.run("CLUSTER", "MYID").decode() for server in (source, target))
    target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", theirs)
    source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", ours)
    while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, 20):
        source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
    for server in cluster.servers:
        server.run("CLUSTER", "SETSLOT", slot, "NODE", ours)


@asynccontextmanager
async def _cluster_slot_moved(folder: Path) -> AsyncIterator[Ground]:
    with running_cluster(replicas=0) as cluster:
        yield Ground(cluster.url, cluster.url, partial(_slot_moved, cluster))


async def _primary_killed(cluster: Cluster) -> None:
    """The primary with the most records dies for good. It had two replicas: the one that takes over still has one."""
    await asyncio.sleep(BEGIN_SECONDS)
    primaries = [server for server in cluster.servers if server.run("ROLE")[0] == b"master"]
    await asyncio.to_thread(max(primaries, key=lambda server: server.run("DBSIZE")).kill)


@asynccontextmanager
async def _cluster_primary_killed(folder: Path) -> AsyncIterator[Ground]:
    with running_cluster(replicas=2) as cluster:
        url = f"{cluster.url}?replicas=1&answer_seconds=1"
        yield Ground(url, url, partial(_primary_killed, cluster))


# --- a server whose memory is full


async def _full(machine: RedisMachine) -> None:
    """Not a byte more than it has now: each write is refused, and nothing is thrown away. Then somebody gives it more."""
    await asyncio.sleep(BEGIN_SECONDS)
    machine.run("CONFIG", "SET", "maxmemory", "1mb")
    await asyncio.sleep(AWAY_SECONDS)
    machine.run("CONFIG", "SET", "maxmemory", "0")


# --- a server whose clock somebody sets

CLOCK_SECONDS = 120
CLOCK_SHIM = Path(__file__).with_name("clock_ahead.c")


async def _clock_set(ahead: Path, machine: RedisMachine) -> None:
    """Two minutes ahead: every lease that lives has lapsed for the server, and each holder works on."""
    await asyncio.sleep(BEGIN_SECONDS)
    before = machine.run("TIME")
    with ahead.open("r+b") as file:
        file.write(struct.pack("l", CLOCK_SECONDS))
    after = machine.run("TIME")
    assert int(after[0]) - int(before[0]) >= CLOCK_SECONDS, "the server does not see it"


@asynccontextmanager
async def _clock_ahead(folder: Path) -> AsyncIterator[Ground]:
    shim, ahead, data = folder / "clock_ahead.so", folder / "ahead", folder / "redis"
    data.mkdir()
    ahead.write_bytes(struct.pack("l", 0))
    await asyncio.to_thread(subprocess.run, ["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(CLOCK_SHIM), "-ldl"], check=True)
    server = RedisServer(data, environment={"LD_PRELOAD": str(shim), "CLOCK_AHEAD": str(ahead)})
    machine = RedisMachine(server)
    try:
        yield Ground(machine.url, machine.url, partial(_clock_set, ahead, machine))
    finally:
        server.stop()


# --- a primary that is replaced by its replica


async def _failover(primary: RedisServer, replica: RedisServer, front: TcpProxy) -> None:
    """The address goes to the replica, which has not heard the last of it: its link is slow, and what was on it is lost."""
    await asyncio.sleep(BEGIN_SECONDS + 1)
    primary.process.pause()
    replica.run("REPLICAOF", "NO", "ONE")
    primary.kill()
    front.target_port = replica.port
    front.cut_all()


@asynccontextmanager
async def _redis_failover(folder: Path) -> AsyncIterator[Ground]:
    with redis_machine() as first:
        primary = first.server
        async with proxied("127.0.0.1", primary.port) as link, proxied("127.0.0.1", primary.port) as front:
            link.mode, link.delay_seconds = Mode.DELAY, LINK_DELAY_SECONDS
            with redis_machine() as second:
                replica = second.server
                await asyncio.to_thread(replica.run, "REPLICAOF", "127.0.0.1", link.port)
                await asyncio.to_thread(wait_until, lambda: replica.run("INFO", "replication")["master_link_status"] == "up")
                await asyncio.to_thread(wait_until, lambda: primary.run("WAIT", 1, 100) == 1)
                url = f"redis://127.0.0.1:{front.port}?answer_seconds=1"
                yield Ground(url, f"redis://127.0.0.1:{replica.port}", partial(_failover, primary, replica, front))


def _all() -> Iterator[tuple[str, Fault]]:
    yield from faults_of("redis", redis_machine)
    yield "redis: full", partial(on, redis_machine, _full)
    if shutil.which("cc"):  # what stands between the server and its clock is compiled for it
        yield "redis: clock set", _clock_ahead
    yield "redis: failover, best effort", _redis_failover
    yield "redis-cluster: slots moved", _cluster_slot_moved
    yield "redis-cluster: a primary with two replicas killed", _cluster_primary_killed


FAULTS: Mapping[str, Fault] = dict(_all())
