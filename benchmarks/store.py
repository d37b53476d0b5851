"""What the SQLite store takes in, durably, and how it grows. Prints tables; nothing is asserted but that each order was won.

    python benchmarks/store.py               about ten minutes, up to 1 million records
    python benchmarks/store.py --quick       up to 100 thousand
    python benchmarks/store.py --json        the same, for programs

An accept is `store.open` of an order that waits in the queue, with its purchase, its session and 900 bytes of sealed
request: it returns when the record is on the disk. Several processes share one file through the store's own lock.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from cxguard.clock import SystemClock
from cxguard.core.names import reference_of
from cxguard.core.operation import Operation, State
from cxguard.stores.base import Query, Store
from cxguard.stores.memory import MemoryStore
from cxguard.stores.sqlite import SQLiteStore

CALLERS = (1, 8, 64)
ROUNDS = 5
PROCESSES, CALLERS_EACH = 4, 8
SIZES = (1_000, 10_000, 100_000, 1_000_000)
FILL_CALLERS, FILL_BATCH = 2_048, 1_024
REQUEST = os.urandom(900)
DUE_IN_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Waits:
    """How many a second, and how long each one waited. Milliseconds."""

    a_second: float
    p50: float
    p99: float
    worst: float


def waits(seconds: list[float], *, over_seconds: float) -> Waits:
    ranked = sorted(seconds)
    return Waits(
        len(ranked) / over_seconds,
        ranked[len(ranked) // 2] * 1e3,
        ranked[min(int(len(ranked) * 0.99), len(ranked) - 1)] * 1e3,
        ranked[-1] * 1e3,
    )


def orders(start: int = 0) -> Iterator[Operation]:
    """Orders as a checkout keeps them, one after the other, no two alike."""
    clock = SystemClock()
    for number in count(start):
        id = hashlib.sha256(str(number).encode()).hexdigest()
        now = clock.now()
        yield Operation(
            id=id,
            namespace="shop",
            rule="POST /checkout/pay",
            owner=id[32:],
            reference=reference_of(id),
            fingerprint=id[::-1],
            state=State.QUEUED,
            created_at=now,
            updated_at=now,
            due_at=now + DUE_IN_SECONDS,
            give_up_at=now + DUE_IN_SECONDS,
            amount_minor=4_999,
            currency="EUR",
            claims=(f"p-{id[:40]}",),
            session=id[3:35],
            contact_hash=id[7:47],
            request=REQUEST,
            kept=True,
        )


@asynccontextmanager
async def opened(path: Path, **limits: Any) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, clock=SystemClock(), **limits)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def accept(store: Store, source: Iterator[Operation], *, callers: int) -> Waits:
    """Take all of *source* in, so many callers at a time."""
    seconds: list[float] = []

    async def caller() -> None:
        for order in source:
            began = time.perf_counter()
            opened = await store.open(order, holder="bench", attempt=order.id, lease_seconds=None)
            seconds.append(time.perf_counter() - began)
            if not opened.won:
                raise SystemExit(f"order {order.reference} was not won")

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return waits(seconds, over_seconds=time.perf_counter() - began)


# --- callers


async def by_callers(folder: Path, accepts: int, console: Console) -> dict[str, Waits]:
    """The middle one of several rounds for each number of callers, the rounds interleaved."""
    rounds: dict[int, list[Waits]] = {callers: [] for callers in CALLERS}
    source = orders()
    async with opened(folder / "callers.db") as store:
        await accept(store, islice(source, 500), callers=8)
        for number in range(ROUNDS):
            for callers in CALLERS:
                console.print(f"callers: round {number + 1} of {ROUNDS}", end="\r")
                some = accepts // 8 if callers == 1 else accepts
                rounds[callers].append(await accept(store, islice(source, some), callers=callers))
    return {f"{callers} callers": _middle(found) for callers, found in rounds.items()}


def _middle(found: list[Waits]) -> Waits:
    """Each figure's median; the worst wait is the worst of all."""
    columns = zip(*(asdict(one).values() for one in found), strict=True)
    a_second, p50, p99, worst = (list(column) for column in columns)
    return Waits(statistics.median(a_second), statistics.median(p50), statistics.median(p99), max(worst))


# --- processes


async def by_processes(folder: Path, accepts: int) -> dict[str, Waits]:
    """Four processes on one file, all at once. They start together: each waits for a line on its standard input."""
    path = folder / "processes.db"
    async with opened(path):
        pass
    command = [sys.executable, __file__, "--child", str(path), "--accepts", str(accepts), "--first"]
    pipe = asyncio.subprocess.PIPE
    children = [await asyncio.create_subprocess_exec(*command, str(number * 10**9), stdin=pipe, stdout=pipe) for number in range(PROCESSES)]
    for child in children:
        await _line(child)  # it is ready
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
    each = [Waits(**json.loads(await _line(child))) for child in children]
    for child in children:
        await child.wait()
    together = Waits(
        sum(one.a_second for one in each),
        statistics.median(one.p50 for one in each),
        max(one.p99 for one in each),
        max(one.worst for one in each),
    )
    return {f"{PROCESSES} processes of {CALLERS_EACH} callers": together}


async def _line(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    return await child.stdout.readline()


async def be_child(path: Path, *, first: int, accepts: int) -> None:
    """One of the processes: ready, wait, accept, tell."""
    async with opened(path) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        found = await accept(store, islice(orders(first), accepts), callers=CALLERS_EACH)
    print(json.dumps(asdict(found)), flush=True)


# --- growth


@dataclass(frozen=True, slots=True)
class Grown:
    """What the verbs cost at a size. Milliseconds at the median, one caller after the other; accepts by 8 callers.

    `repeat` opens an order that is there; `poll` is a worker's look when nothing is due.
    """

    records: int
    accepts_a_second: float
    accept_p99: float
    repeat: float
    look_up: float
    page: float
    poll: float
    tally: float
    bytes_each: float


async def by_size(folder: Path, sizes: tuple[int, ...], *, accepts: int, fill_seconds_max: float, console: Console) -> list[Grown]:
    """Fill the file, look, fill on. What does not fit into the time is left out, and said."""
    path, source, grown = folder / "growth.db", orders(), []
    held, until = 0, time.monotonic() + fill_seconds_max
    for size in sizes:
        while held < size and time.monotonic() < until:
            console.print(f"growth: {held} records", end="\r")
            some = min(size - held, 50_000)
            async with opened(path, batch_max=FILL_BATCH) as store:
                await accept(store, islice(source, some), callers=FILL_CALLERS)
            held += some
        if held < size:
            console.print(f"growth ends at {held} records: the time for filling is over (--fill-seconds)")
            break
        grown.append(await _at_size(path, source, held, accepts=accepts))
        held += accepts * ROUNDS
    return grown


async def _at_size(path: Path, source: Iterator[Operation], held: int, *, accepts: int) -> Grown:
    async with opened(path) as store:
        known = list(islice(orders(), 200))
        found = _middle([await accept(store, islice(source, accepts), callers=8) for _ in range(ROUNDS)])
        return Grown(
            records=held,
            accepts_a_second=found.a_second,
            accept_p99=found.p99,
            repeat=await _each(known, lambda one: store.open(one, holder="bench", attempt="again", lease_seconds=None)),
            look_up=await _each(known, lambda one: store.search(Query(namespace="shop", reference=one.reference))),
            page=await _each(known[:50], lambda one: store.search(Query(namespace="shop", states=(State.QUEUED,)))),
            poll=await _each(
                known[:50], lambda one: store.take(namespace="shop", rules=[one.rule], holder="b", lease_seconds=30.0, limit=16)
            ),
            tally=await _each(known[:50], lambda one: store.tally("shop")),
            bytes_each=bytes_of(path) / (held + accepts * ROUNDS),
        )


def bytes_of(path: Path) -> int:
    return path.stat().st_size


async def _each(known: list[Operation], ask: Callable[[Operation], Awaitable[Any]]) -> float:
    """The median of one call after the other, in milliseconds."""
    spent = []
    for one in known:
        began = time.perf_counter()
        await ask(one)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent) * 1e3


async def memory_each(records: int) -> float:
    """Bytes of one record in the memory store, and in Python at all."""
    store, some = MemoryStore(clock=SystemClock()), list(islice(orders(), records))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await accept(store, iter(some), callers=1)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / records


# --- telling


def show_waits(found: dict[str, Waits], console: Console) -> None:
    table = Table(
        title="durable accepts on SQLite (synchronous=FULL); goals: 5,000/s and p99 < 20 ms at 8 callers, worst < 50 ms in 4 processes"
    )
    for name in ("", "a second", "p50 ms", "p99 ms", "worst ms"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, one in found.items():
        table.add_row(name, f"{one.a_second:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}", f"{one.worst:.1f}")
    console.print(table)


def show_growth(grown: list[Grown], memory: float, console: Console) -> None:
    table = Table(title="the same file as it grows; goal: flat within 20 %")
    columns = ("records", "accepts/s", "p99 ms", "repeat ms", "by reference ms", "page ms", "poll ms", "tally ms", "bytes/record")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for one in grown:
        times = (one.accept_p99, one.repeat, one.look_up, one.page, one.poll, one.tally)
        table.add_row(f"{one.records:,}", f"{one.accepts_a_second:,.0f}", *(f"{value:.2f}" for value in times), f"{one.bytes_each:,.0f}")
    console.print(table)
    console.print(f"memory store: {memory:,.0f} bytes a record beyond the request's own")


@click.command()
@click.option("--quick", is_flag=True, help="Up to 100 thousand records, fewer accepts: a look, not a figure.")
@click.option("--accepts", default=8_000, show_default=True, help="Accepts in one round.")
@click.option("--fill-seconds", default=420.0, show_default=True, help="How long filling may take in all.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Where the files go; a real disk.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@click.option("--child", type=click.Path(path_type=Path), hidden=True)
@click.option("--first", default=0, hidden=True)
def main(quick: bool, accepts: int, fill_seconds: float, folder: Path | None, as_json: bool, child: Path | None, first: int) -> None:
    """What the SQLite store takes in, durably, and how it grows."""
    if child is not None:
        uvloop.run(be_child(child, first=first, accepts=accepts))
        return
    accepts, sizes = (2_000, SIZES[:-1]) if quick else (accepts, SIZES)
    console = Console(stderr=as_json, width=120)
    with TemporaryDirectory(dir=folder or Path.cwd()) as place:
        here = Path(place)
        found = {**uvloop.run(by_callers(here, accepts, console)), **uvloop.run(by_processes(here, accepts))}
        grown = uvloop.run(by_size(here, sizes, accepts=accepts // 4, fill_seconds_max=fill_seconds, console=console))
    memory = asyncio.run(memory_each(10_000))
    if as_json:
        told = {"accepts": {name: asdict(one) for name, one in found.items()}, "growth": [asdict(one) for one in grown]}
        print(json.dumps({**told, "memory_bytes_each": memory}, indent=2))
        return
    show_waits(found, console)
    show_growth(grown, memory, console)


if __name__ == "__main__":
    main()
