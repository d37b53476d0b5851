"""What a guarded request costs on Redis and on PostgreSQL, beside the peers on the same Redis and beside two bare commands.

    python benchmarks/overhead_servers.py            about three minutes
    python benchmarks/overhead_servers.py --quick    a look
    python benchmarks/overhead_servers.py --json     the same, for programs

Starts both servers on free ports of this machine: Redis with `appendfsync always`, PostgreSQL with `fsync` on. One process,
uvloop, the apps are called without a socket; a round runs every case once, in an order that changes. Microseconds are those
of one caller; requests a second are those of 50 in flight, each under a new key. Commands are what the Redis server itself
says that it was sent (MONITOR, without those that its scripts run), for ten submits of one key at once. An answer that is
wrong is named so.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import click
import uvloop
from overhead import SEED, Case, Client, measure
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from server_subjects import on_servers
from subjects import Shopfloor, Subject

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the servers are those of the tests

from postgres_server import running_postgres
from redis_servers import running_redis

IN_FLIGHT = 50
DUPLICATES = 10


@dataclass(slots=True)
class Row:
    """One subject. Microseconds and requests a second by round; `wrong` says what it answered wrongly."""

    subject: Subject
    new: list[float] = field(default_factory=list)
    replay: list[float] = field(default_factory=list)
    a_second: list[float] = field(default_factory=list)
    commands: int | None = None
    wrong: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table: medians."""

    name: str
    new_us: float
    replay_us: float
    a_second: float
    commands: int | None
    wrong: dict[str, str]


async def run(rounds: int, calls: int, redis_url: str, postgres_url: str, console: Console) -> list[Figures]:
    """All rounds."""
    rows = [Row(subject) for subject in on_servers(redis_url, postgres_url)]
    order = random.Random(SEED)
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}", end="\r")
        for row in order.sample(rows, len(rows)):
            await one_round(row, calls)
    for row in rows:
        if row.subject.name != "cxguard, PostgreSQL":
            row.commands = await commands_of_duplicates(row, redis_url)
    return [figures(row) for row in rows]


async def one_round(row: Row, calls: int) -> None:
    for keyed, found in (("new", row.new), ("replay", row.replay)):
        measured = await measure(Case(row.subject.name, row.subject, keyed=keyed), calls)
        found.append(measured.microseconds)
        if measured.wrong:
            row.wrong[keyed] = measured.wrong
    row.a_second.append(await throughput(row, calls * 5))


async def throughput(row: Row, calls: int) -> float:
    """Requests a second with `IN_FLIGHT` of them on their way, each under a key of its own."""
    shop, numbers = Shopfloor(), iter(range(calls + IN_FLIGHT))
    async with row.subject.around(shop.app) as app:
        await asyncio.gather(*(Client(app).call("POST", f"warm-{next(numbers):08d}") for _ in range(IN_FLIGHT)))
        began = time.perf_counter()
        await asyncio.gather(*(_caller(Client(app), numbers) for _ in range(IN_FLIGHT)))
        spent = time.perf_counter() - began
    if shop.orders != calls + IN_FLIGHT:
        row.wrong["in flight"] = f"{shop.orders} orders for {calls + IN_FLIGHT} submits"
    return calls / spent


async def _caller(client: Client, numbers: Iterator[int]) -> None:
    for number in numbers:
        await client.call("POST", f"key-{number:08d}")


async def commands_of_duplicates(row: Row, url: str) -> int:
    """What the server was sent for so many submits of one key at once, on connections that are warm."""
    shop = Shopfloor()
    async with row.subject.around(shop.app) as app, Redis.from_url(url) as watcher, watcher.monitor() as seen:
        clients = [Client(app) for _ in range(DUPLICATES)]
        for key in ("before", "counted"):
            await watcher.echo(f"begin {key}")
            answers = await asyncio.gather(*(client.call("POST", key) for client in clients), return_exceptions=True)
            await watcher.echo(f"end {key}")
        sent = await _sent_between(seen, "begin counted", "end counted")
    raised = [type(answer).__name__ for answer in answers if isinstance(answer, Exception)]
    if raised:
        row.wrong["at once"] = f"{len(raised)} of {DUPLICATES} raised {raised[0]}"
    if shop.orders != 2:
        row.wrong["duplicates"] = f"{shop.orders - 1} orders for {DUPLICATES} submits of one key"
    return sent


async def _sent_between(seen: Any, first: str, last: str) -> int:
    counted = count()
    while True:
        line = await seen.next_command()
        if line["command"] == f"ECHO {first}":
            counted = count()
        elif line["command"] == f"ECHO {last}":
            return next(counted)
        elif line["client_type"] != "lua":
            next(counted)


def figures(row: Row) -> Figures:
    new, replay, a_second = (statistics.median(found) for found in (row.new, row.replay, row.a_second))
    return Figures(row.subject.name, new, replay, a_second, row.commands, row.wrong)


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """A Redis and a PostgreSQL, until the end of the block."""
    with running_redis() as redis, running_postgres() as postgres:
        yield redis.url, postgres.url


def show(lines: Sequence[Figures], console: Console, *, title: str) -> None:
    table = Table(title=title)
    names = ("subject", "new key µs", "over the floor", "replay µs", "requests/s", f"commands of {DUPLICATES}", "answers wrongly")
    for name in names:
        table.add_column(name, justify="left" if name in names[::6] else "right")
    for line in lines:
        over = f"{line.new_us / lines[0].new_us:.2f}x"
        commands = "" if line.commands is None else str(line.commands)
        wrong = "; ".join(f"{case}: {what}" for case, what in line.wrong.items())
        table.add_row(line.name, f"{line.new_us:,.0f}", over, f"{line.replay_us:,.0f}", f"{line.a_second:,.0f}", commands, wrong)
    console.print(table)


@click.command()
@click.option("--rounds", default=9, show_default=True, help="How often every case is measured.")
@click.option("--calls", default=200, show_default=True, help="Calls of one case in one round; five times as many in flight.")
@click.option("--quick", is_flag=True, help="3 rounds of 50 calls: a look, not a figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, calls: int, quick: bool, as_json: bool) -> None:
    """What a guarded request costs on servers."""
    rounds, calls = (3, 50) if quick else (rounds, calls)
    console = Console(stderr=as_json, width=150)
    with servers() as (redis_url, postgres_url):
        lines = uvloop.run(run(rounds, calls, redis_url, postgres_url, console))
        sets = {subject.name: subject.settings for subject in on_servers(redis_url, postgres_url)}
    if as_json:
        print(json.dumps({"rounds": rounds, "calls": calls, "lines": [asdict(line) for line in lines], "settings": sets}, indent=2))
        return
    show(lines, console, title=f"{rounds} rounds of {calls} calls, uvloop, in one process; {IN_FLIGHT} in flight for requests a second")
    for name, text in sets.items():
        console.print(f"  {name}: {text}", highlight=False)


if __name__ == "__main__":
    main()
