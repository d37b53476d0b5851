"""What Redis and PostgreSQL take in, durably, and how fast workers clear it. Prints a table; only that nothing is lost is asserted.

    python benchmarks/store_servers.py             about three minutes
    python benchmarks/store_servers.py --quick     a look
    python benchmarks/store_servers.py --growth    accepts while the store fills up to a million records, without the queues: 20 minutes
    python benchmarks/store_servers.py --json      the same, for programs

Starts both servers on free ports of this machine: Redis with `appendfsync always`, PostgreSQL with `fsync` on. An accept is
that of `benchmarks/store.py`. A take is a worker's: lease the one most urgent order, save it as ended. Beside them, on the
same servers and in the same rounds, SAQ and procrastinate (`queue_peers.py`).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import click
import psycopg
import uvloop
from queue_peers import Peer, ProcrastinatePeer, SaqPeer
from rich.console import Console
from rich.table import Table
from store import CALLERS, SIZES, Waits, accept, orders, waits

from cxguard.clock import SystemClock
from cxguard.core.operation import Operation, State, changed
from cxguard.stores.address import open_store
from cxguard.stores.base import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the servers are those of the tests

from postgres_server import running_postgres
from redis_servers import running_redis

LEASE_SECONDS = 30.0
FILL_CALLERS = 256
SIZED = "-c shared_buffers=1GB -c max_wal_size=8GB -c checkpoint_timeout=15min -c wal_compression=on"  # as docs/deployment.md says
FILL_ANSWER_SECONDS = 10  # so many callers at once ask more of a server than a shop's patience allows
LOOK, LOOKS = 1_000, 3  # accepts in one look, and looks, at each size
GOALS = {"Redis": (8_000, 5_000), "PostgreSQL": (10_000, 5_000)}  # accepts and takes a second with 8 callers


@dataclass(frozen=True, slots=True)
class Found:
    """One line: what so many callers did on one server, the median of the rounds."""

    server: str
    callers: int
    accepts: Waits
    takes: Waits


async def measure(server: str, url: str, peer: Peer, *, rounds: int, accepts: int) -> list[Found]:
    """Our store and its peer, in turns."""
    store, source, numbers = open_store(url, clock=SystemClock()), due_orders(), count()
    await store.start()
    await peer.start()
    found: dict[tuple[str, int], list[tuple[Waits, Waits]]] = {}
    try:
        await accept(store, islice(source, 200), callers=8)
        await clear(store, callers=8)
        for _ in range(rounds):
            for callers in CALLERS:
                some = accepts // 8 if callers == 1 else accepts
                accepted = await accept(store, islice(source, some), callers=callers)
                found.setdefault((server, callers), []).append((accepted, await clear(store, callers=callers, wanted=some)))
                put = await each(lambda: peer.put(next(numbers)), times=some, callers=callers)
                found.setdefault((peer.name, callers), []).append((put, await each(peer.end_one, times=some, callers=callers)))
    finally:
        await peer.stop()
        await store.stop()
    ranked = sorted(found.items(), key=lambda item: item[0][0] != server)
    return [Found(name, callers, *map(_middle, zip(*waited, strict=True))) for (name, callers), waited in ranked]


async def each(call: Callable[[], Awaitable[None]], *, times: int, callers: int) -> Waits:
    """Call it so often, so many callers at a time."""
    seconds: list[float] = []
    left = iter(range(times))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return waits(seconds, over_seconds=time.perf_counter() - began)


async def growth(url: str, *, sizes: Sequence[int]) -> dict[int, Waits]:
    """Accepts with 8 callers at each size; between them the store is filled by many."""
    store, source, filled, found = open_store(url, clock=SystemClock()), orders(), 0, {}
    await store.start()
    try:
        for size in sizes:
            print(f"filling {url.partition('://')[0]} up to {size:,} records", file=sys.stderr)
            await accept(store, islice(source, max(size - filled, 0)), callers=FILL_CALLERS)
            looks = [await accept(store, islice(source, LOOK), callers=8) for _ in range(LOOKS)]
            found[size], filled = _middle(tuple(looks)), size + LOOK * LOOKS
    finally:
        await store.stop()
    return found


def due_orders() -> Iterator[Operation]:
    """Orders that a worker finds due at once."""
    return (changed(order, due_at=order.created_at - 1.0) for order in orders())


async def clear(store: Store, *, callers: int, wanted: int | None = None) -> Waits:
    """Take and end whatever is due, so many workers at a time, each one order after the other."""
    seconds: list[float] = []

    async def worker(name: str) -> None:
        while True:
            began = time.perf_counter()
            taken = await store.take(namespace="shop", rules=["POST /checkout/pay"], holder=name, lease_seconds=LEASE_SECONDS, limit=1)
            if not taken:
                return
            (order,) = taken
            assert order.lease is not None, "a taken order is leased"
            over = changed(order, state=State.CANCELLED, due_at=None, request=None)
            await store.save(over, token=order.lease.token, keep_lease=False)
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker(f"worker-{number}") for number in range(callers)))
    if wanted is not None and len(seconds) != wanted:
        raise SystemExit(f"{len(seconds)} of {wanted} orders were taken")
    return waits(seconds, over_seconds=time.perf_counter() - began)


def _middle(found: tuple[Waits, ...]) -> Waits:
    columns = zip(*(asdict(one).values() for one in found), strict=True)
    a_second, p50, p99, worst = (list(column) for column in columns)
    return Waits(statistics.median(a_second), statistics.median(p50), statistics.median(p99), max(worst))


async def bytes_each(url: str, size: Callable[[], int], *, records: int) -> float:
    """What a record that waits takes up on the server, with all that finds it."""
    store = open_store(url, clock=SystemClock())
    await store.start()
    try:
        before = size()
        await accept(store, islice(orders(10**9), records), callers=64)
        return (size() - before) / records
    finally:
        await store.stop()


def postgres_size(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None, "the database has a size"
    return int(row[0])


def show(found: list[Found], sizes: dict[str, float], console: Console) -> None:
    table = Table(title="durable accepts, and takes with their saves, a second")
    names = ("server, callers", "accepts/s", "goal", "p50 ms", "p99 ms", "takes/s", "goal", "p50 ms", "p99 ms")
    for name in names:
        table.add_column(name, justify="left" if name == names[0] else "right", no_wrap=True)
    for one in found:
        goals = GOALS.get(one.server, ("", "")) if one.callers == 8 else ("", "")
        cells: list[str] = [f"{one.server}, {one.callers}"]
        for waited, goal in zip((one.accepts, one.takes), goals, strict=True):
            cells += [f"{waited.a_second:,.0f}", f"{goal:,}" if goal else "", f"{waited.p50:.2f}", f"{waited.p99:.2f}"]
        table.add_row(*cells)
    console.print(table)
    for server, size in sizes.items():
        console.print(f"{server}: {size:,.0f} bytes a record")


def show_growth(found: dict[str, dict[int, Waits]], console: Console) -> None:
    table = Table(title="durable accepts a second with 8 callers, by what is there")
    names = ("server", "records", "accepts/s", "p50 ms", "p99 ms", "against the first")
    for name in names:
        table.add_column(name, justify="left" if name == names[0] else "right", no_wrap=True)
    for server, sizes in found.items():
        first = next(iter(sizes.values()))
        for size, one in sizes.items():
            change = f"{one.a_second / first.a_second - 1:+.0%}"
            table.add_row(server, f"{size:,}", f"{one.a_second:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}", change)
    console.print(table)


@click.command()
@click.option("--rounds", default=3, show_default=True, help="How often each number of callers is measured.")
@click.option("--accepts", default=2_000, show_default=True, help="Orders in one round.")
@click.option("--quick", is_flag=True, help="One round of 400 orders: a look, not a figure.")
@click.option("--growth", "grows", is_flag=True, help="Only how accepts change while the store fills.")
@click.option("--size", "sizes", multiple=True, type=int, default=SIZES, show_default=True, help="Records at each look of --growth.")
@click.option("--server", "servers", multiple=True, type=click.Choice(list(GOALS)), default=list(GOALS), help="With --growth: this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, accepts: int, quick: bool, grows: bool, sizes: tuple[int, ...], servers: tuple[str, ...], as_json: bool) -> None:
    """What Redis and PostgreSQL take in, durably."""
    rounds, accepts = (1, 400) if quick else (rounds, accepts)
    found = by_growth(sizes, servers) if grows else by_callers(rounds, accepts)
    if as_json:
        print(json.dumps(found, indent=2, default=asdict))
    elif grows:
        show_growth(found, Console(width=120))
    else:
        show(found["found"], found["bytes_each"], Console(width=120))
        for text in (SaqPeer.settings, ProcrastinatePeer.settings):
            print(f"  {text}")


def by_growth(sizes: Sequence[int], servers: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "Redis" in servers:
        with running_redis() as redis:
            url = f"{redis.url}?answer_seconds={FILL_ANSWER_SECONDS}"
            found["Redis"] = uvloop.run(growth(url, sizes=sizes))
    if "PostgreSQL" in servers:
        with running_postgres(options=SIZED) as postgres:
            found["PostgreSQL"] = uvloop.run(growth(postgres.url, sizes=sizes))
    return found


def by_callers(rounds: int, accepts: int) -> dict[str, Any]:
    found: list[Found] = []
    sizes: dict[str, float] = {}
    with running_redis() as redis:
        found += uvloop.run(measure("Redis", redis.url, SaqPeer(redis.url), rounds=rounds, accepts=accepts))
        sizes["Redis"] = uvloop.run(bytes_each(redis.url, lambda: int(redis.run("INFO", "memory")["used_memory"]), records=accepts))
    with running_postgres() as postgres:
        peer = ProcrastinatePeer(postgres.url)
        found += uvloop.run(measure("PostgreSQL", postgres.url, peer, rounds=rounds, accepts=accepts))
        sizes["PostgreSQL"] = uvloop.run(bytes_each(postgres.url, lambda: postgres_size(postgres.url), records=accepts))
    return {"found": found, "bytes_each": sizes}


if __name__ == "__main__":
    main()
