"""Beyond one machine: a shop of several processes and workers on one store, and a gateway that is down for ten seconds.

    python benchmarks/fleet.py                         10,000 orders on PostgreSQL, about five minutes
    python benchmarks/fleet.py --store sqlite          the same on another store
    python benchmarks/fleet.py --orders 500 --rate 50 --json

Six in ten orders are sent more than once: the same key to two or three processes at the same moment, again elsewhere when
the answer takes long, again when it is there, or from a second tab under a second key. First the gateway charges and never
answers, then its port is shut, then it answers 500. What became of each order is read from the gateway's own ledger, the
shop's books and what each client was told. Ends with 1 unless

    nobody was charged twice, nobody was told what was not so, and no order is lost or stuck,
    every submit was answered within the rule's deadline and two seconds, pages without money always.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the fleet and the servers are those of the tests

from fleet_shoppers import wishes
from fleet_world import DEADLINE_SECONDS, Told, fleet_running
from store_machines import STORES

BEFORE_SECONDS = 3.0
OUTAGE = "time_out_after 3s, refuse 5s, 500 2s"
SEED = 7
RUN_SECONDS_MAX = 540.0
MARGIN_SECONDS = 2.0  # of a client that shares two cores with everything that it asks


async def run(folder: Path, *, store: str, orders: int, rate: float, apps: int, workers: int) -> Told:
    with STORES[store](folder) as url:
        async with fleet_running(folder, store_url=url, apps=apps, workers=workers, say=_say) as fleet:
            script = f"healthy {BEFORE_SECONDS:g}s, {OUTAGE}, healthy"
            return await fleet.through(wishes(orders, rate=rate, seed=SEED), script=script, seconds_max=RUN_SECONDS_MAX)


def _say(line: str) -> None:
    print(f"fleet: {line}", file=sys.stderr, flush=True)


def failures(told: Told) -> list[str]:
    found = told.failures()
    if told.longest_wait_seconds > DEADLINE_SECONDS + MARGIN_SECONDS:
        found.append(f"a submit waited {told.longest_wait_seconds:.1f} s")
    return found


def show(told: Told, console: Console) -> None:
    verdict = told.verdict
    table = Table(title="what became of the orders")
    row = {
        "orders": verdict.wanted,
        "submits": told.submits,
        "paid once": verdict.paid_once,
        "declined": verdict.declined,
        **told.wrong(),
        "replays": told.replays,
    }
    for name in row:
        table.add_column(name, justify="right")
    table.add_row(*(f"{number:,}" for number in row.values()))
    console.print(table)
    console.print(
        f"answers: p50 {told.p50_seconds * 1000:.0f} ms, p99 {told.p99_seconds:.2f} s, longest {told.longest_wait_seconds:.2f} s; "
        f"{told.pings - told.pings_failed} of {told.pings} looks at other pages well; "
        f"{told.submits / told.load_seconds:,.0f} submits a second for {told.load_seconds:.0f} s, {told.all_seconds:.0f} s in all"
    )


@click.command()
@click.option("--store", type=click.Choice(sorted(STORES)), default="postgresql", show_default=True, help="What the fleet shares.")
@click.option("--orders", default=10_000, show_default=True, type=click.IntRange(10), help="How many orders are wanted.")
@click.option("--rate", default=50.0, show_default=True, help="Orders a second; each is sent nearly twice.")
@click.option("--apps", default=4, show_default=True, help="Processes of the shop.")
@click.option("--workers", default=2, show_default=True, help="Processes that place what was kept.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A folder for ledger and logs, kept afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(store: str, orders: int, rate: float, apps: int, workers: int, keep: Path | None, as_json: bool) -> None:
    """A fleet through an outage of its gateway."""
    with TemporaryDirectory() as made:
        folder = keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        told = asyncio.run(run(folder, store=store, orders=orders, rate=rate, apps=apps, workers=workers))
    if as_json:
        print(json.dumps({**asdict(told), "wrong": told.wrong()}, indent=2))
    else:
        show(told, Console(width=140))
    for failure in failures(told):
        print(failure, file=sys.stderr)
    sys.exit(1 if failures(told) else 0)


if __name__ == "__main__":
    main()
