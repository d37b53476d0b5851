"""What Redis and PostgreSQL take in, durably, and how fast workers clear it. Prints a table; only that nothing is lost is asserted.

    python benchmarks/store_servers.py             about two minutes
    python benchmarks/store_servers.py --quick     a look
    python benchmarks/store_servers.py --json      the same, for programs

Starts both servers on free ports of this machine: Redis with `appendfsync always`, PostgreSQL with `fsync` on. An accept is
that of `benchmarks/store.py`. A take is a worker's: lease the one most urgent order, save it as ended.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import click
import psycopg
import uvloop
from rich.console import Console
from rich.table import Table
from store import CALLERS, Waits, accept, orders, waits

from cxguard.clock import SystemClock
from cxguard.core.operation import Operation, State, changed
from cxguard.stores.address import open_store
from cxguard.stores.base import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the servers are those of the tests

from postgres_server import running_postgres
from redis_servers import running_redis

LEASE_SECONDS = 30.0
GOALS = {"Redis": (8_000, 5_000), "PostgreSQL": (10_000, 5_000)}  # accepts and takes a second with 8 callers


@dataclass(frozen=True, slots=True)
class Found:
    """One line: what so many callers did on one server, the median of the rounds."""

    server: str
    callers: int
    accepts: Waits
    takes: Waits


async def measure(server: str, url: str, *, rounds: int, accepts: int) -> list[Found]:
    store, source = open_store(url, clock=SystemClock()), due_orders()
    await store.start()
    try:
        await accept(store, islice(source, 200), callers=8)
        await clear(store, callers=8)
        found: dict[int, list[tuple[Waits, Waits]]] = {callers: [] for callers in CALLERS}
        for _ in range(rounds):
            for callers in CALLERS:
                some = accepts // 8 if callers == 1 else accepts
                accepted = await accept(store, islice(source, some), callers=callers)
                found[callers].append((accepted, await clear(store, callers=callers, wanted=some)))
    finally:
        await store.stop()
    return [Found(server, callers, *map(_middle, zip(*each, strict=True))) for callers, each in found.items()]


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
        goals = GOALS[one.server] if one.callers == 8 else ("", "")
        cells: list[str] = [f"{one.server}, {one.callers}"]
        for each, goal in zip((one.accepts, one.takes), goals, strict=True):
            cells += [f"{each.a_second:,.0f}", f"{goal:,}" if goal else "", f"{each.p50:.2f}", f"{each.p99:.2f}"]
        table.add_row(*cells)
    console.print(table)
    for server, size in sizes.items():
        console.print(f"{server}: {size:,.0f} bytes a record")


@click.command()
@click.option("--rounds", default=3, show_default=True, help="How often each number of callers is measured.")
@click.option("--accepts", default=4_000, show_default=True, help="Orders in one round.")
@click.option("--quick", is_flag=True, help="One round of 800 orders: a look, not a figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, accepts: int, quick: bool, as_json: bool) -> None:
    """What Redis and PostgreSQL take in, durably."""
    rounds, accepts = (1, 800) if quick else (rounds, accepts)
    found: list[Found] = []
    sizes: dict[str, float] = {}
    with running_redis() as redis:
        found += uvloop.run(measure("Redis", redis.url, rounds=rounds, accepts=accepts))
        sizes["Redis"] = uvloop.run(bytes_each(redis.url, lambda: int(redis.run("INFO", "memory")["used_memory"]), records=accepts))
    with running_postgres() as postgres:
        found += uvloop.run(measure("PostgreSQL", postgres.url, rounds=rounds, accepts=accepts))
        sizes["PostgreSQL"] = uvloop.run(bytes_each(postgres.url, lambda: postgres_size(postgres.url), records=accepts))
    if as_json:
        told: dict[str, Any] = {"found": [asdict(one) for one in found], "bytes_each": sizes}
        print(json.dumps(told, indent=2))
        return
    show(found, sizes, Console(width=120))


if __name__ == "__main__":
    main()
