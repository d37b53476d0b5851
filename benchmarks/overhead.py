"""What a guarded request costs, beside a bare app and beside the peers. Prints a table; nothing is asserted but the answers.

    python benchmarks/overhead.py            about two minutes
    python benchmarks/overhead.py --quick    a look
    python benchmarks/overhead.py --json     the same, for programs

On Redis and PostgreSQL: `benchmarks/overhead_servers.py`.

One process, uvloop, the apps are called without a socket. A round runs every case once, in an order that changes, each
with fresh stores, so that neither a busy moment nor a store that grows is counted against one of them. Told is the
median over the rounds, with the middle half of them as the spread.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table
from subjects import BARE, MEMORY, OPTIONAL, PEERS, App, Shopfloor, Subject, on_disk

BODY = b'{"cart": "c-123", "amount": 4999, "currency": "EUR", "email": "ann@example.org", "source": "tok_1"}'
WARM_CALLS = 30
DURABLE_SHARE = 10  # a call that waits for a disk is made so many times less often
SEED = 7


@dataclass(slots=True)
class Case:
    """One kind of request to one subject. `against`: what its cost is counted from."""

    name: str
    subject: Subject
    method: str = "POST"
    keyed: str = ""  # "new": another key each time; "replay": always the same; "": none
    against: str = "POST, bare"
    goal: str = ""
    microseconds: list[float] = field(default_factory=list)


def cases(folder: Path) -> list[Case]:
    """Every row of the table."""
    disk = on_disk(folder)
    return [
        Case("GET, bare", BARE, "GET", against=""),
        Case("GET, path without a rule", MEMORY, "GET", against="GET, bare", goal="+1"),
        Case("POST, bare", BARE, against=""),
        Case("POST without a key, key not required", OPTIONAL, goal="+2"),
        Case("cxguard, memory: new key", MEMORY, keyed="new", goal="+40"),
        Case("cxguard, memory: replay", MEMORY, keyed="replay", goal="+15"),
        Case("cxguard, SQLite: new key", disk, keyed="new"),
        Case("cxguard, SQLite: replay", disk, keyed="replay"),
        *(Case(f"{peer.name}: {name}", peer, keyed=keyed) for peer in PEERS for name, keyed in (("new key", "new"), ("replay", "replay"))),
        *(Case(f"{peer.name}: GET", peer, "GET", against="GET, bare") for peer in PEERS),
    ]


class Client:
    """Calls an ASGI app as a server does, and keeps the status of the last answer."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._body: list[dict[str, Any]] = []
        self.status = 0

    async def call(self, method: str, key: str | None) -> None:
        headers = [
            (b"host", b"shop.example"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % (len(BODY) if method == "POST" else 0)),
            (b"accept", b"application/json"),
            (b"user-agent", b"Mozilla/5.0"),
            (b"x-user-id", b"ann"),
        ]
        if key is not None:
            headers.append((b"idempotency-key", key.encode()))
        path = "/pay" if method == "POST" else "/catalogue"
        self._body = [{"type": "http.request", "body": BODY if method == "POST" else b"", "more_body": False}]
        await self._app(_scope(method, path, headers), self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return self._body.pop() if self._body else {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]


def _scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("shop.example", 80),
    }


@dataclass(frozen=True, slots=True)
class Measured:
    """Microseconds for one call, and what was wrong with the answers, or nothing: a fast wrong answer is not a figure."""

    microseconds: float
    wrong: str


async def measure(case: Case, calls: int) -> Measured:
    """Call it *calls* times, one after the other, with fresh stores."""
    calls = max(calls // DURABLE_SHARE, 5) if case.subject.durable else calls
    warm = min(WARM_CALLS, calls)
    shop = Shopfloor()
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(case.subject.around(shop.app))
        client = Client(app)
        keys = [_key(case, number) for number in range(warm + calls)]
        for key in keys[:warm]:
            await client.call(case.method, key)
        gc.collect()
        began = time.perf_counter_ns()
        for key in keys[warm:]:
            await client.call(case.method, key)
        spent = time.perf_counter_ns() - began
    return Measured(spent / calls / 1_000, _wrong(case, shop, client, submits=warm + calls))


def _key(case: Case, number: int) -> str | None:
    match case.keyed:
        case "new":
            return f"key-{number:06d}-0f6c2a1e"
        case "replay":
            return "key-000000-0f6c2a1e"
    return None


def _wrong(case: Case, shop: Shopfloor, client: Client, *, submits: int) -> str:
    wanted = 0 if case.method == "GET" else 1 if case.keyed == "replay" else submits
    if (shop.orders, client.status) == (wanted, 200 if case.method == "GET" else 201):
        return ""
    return f"{shop.orders} orders for {submits} submits, last status {client.status}"


async def run(rounds: int, calls: int, folder: Path, console: Console) -> list[Case]:
    """All rounds."""
    table = cases(folder)
    order = random.Random(SEED)
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}", end="\r")
        for case in order.sample(table, len(table)):
            found = await measure(case, calls)
            if found.wrong:
                raise SystemExit(f"{case.name}: {found.wrong}")
            case.microseconds.append(found.microseconds)
            await asyncio.sleep(0)  # what a case left to the loop is not counted against the next one
    return table


def figures(table: Sequence[Case]) -> list[dict[str, Any]]:
    """One line for each case, in microseconds."""
    medians = {case.name: statistics.median(case.microseconds) for case in table}
    lines = []
    for case in table:
        spread = statistics.quantiles(case.microseconds, n=4) if len(case.microseconds) > 1 else [medians[case.name]] * 3
        over = medians[case.name] - medians[case.against] if case.against else None
        lines.append(
            {
                "case": case.name,
                "us": medians[case.name],
                "quarter": spread[0],
                "three_quarters": spread[2],
                "over": over,
                "goal": case.goal,
            }
        )
    return lines


def show(lines: Sequence[dict[str, Any]], console: Console, *, title: str) -> None:
    """The table, and how each subject was set."""
    table = Table(title=title)
    for name in ("case", "µs a call", "middle half", "over bare", "goal"):
        table.add_column(name, justify="left" if name == "case" else "right")
    for line in lines:
        over = "" if line["over"] is None else f"{line['over']:+.1f}"
        table.add_row(line["case"], f"{line['us']:.1f}", f"{line['quarter']:.1f} to {line['three_quarters']:.1f}", over, line["goal"])
    console.print(table)


def settings(folder: Path) -> dict[str, str]:
    """How each subject was set."""
    return {subject.name: subject.settings for subject in (BARE, OPTIONAL, MEMORY, on_disk(folder), *PEERS)}


@click.command()
@click.option("--rounds", default=25, show_default=True, help="How often every case is measured.")
@click.option("--calls", default=400, show_default=True, help="Calls of one case in one round.")
@click.option("--quick", is_flag=True, help="5 rounds of 100 calls: a look, not a figure.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Where SQLite writes; a real disk.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(rounds: int, calls: int, quick: bool, folder: Path | None, as_json: bool) -> None:
    """What a guarded request costs."""
    rounds, calls = (5, 100) if quick else (rounds, calls)
    console = Console(stderr=as_json, width=110)
    with TemporaryDirectory(dir=folder or Path.cwd()) as place:
        lines = figures(uvloop.run(run(rounds, calls, Path(place), console)))
        sets = settings(folder or Path.cwd())
    if as_json:
        print(json.dumps({"rounds": rounds, "calls": calls, "cases": lines, "settings": sets}, indent=2))
        return
    show(lines, console, title=f"{rounds} rounds of {calls} calls, uvloop, in one process")
    for name, text in sets.items():
        console.print(f"  {name}: {text}", highlight=False)


if __name__ == "__main__":
    main()
