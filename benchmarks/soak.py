"""A soak: a shop that sells for half an hour, with a fault every ten seconds, and whether anything grows or goes wrong.

    python benchmarks/soak.py --store sqlite                 30 minutes, and the two that the last orders take
    python benchmarks/soak.py --store postgresql --minutes 5
    python benchmarks/soak.py --minutes 2 --every 5 --json

Three processes of the shop, two workers, six in ten orders sent more than once. In turn: a process of the shop is killed, the
gateway charges and answers 500, the store is killed (SQLite: another program holds the file), a worker is killed, the gateway
refuses, a process sleeps past its lease, the gateway charges and never answers, a process is ended, the gateway throttles. One
process of the shop and one worker live through all of it: their memory and open files, and what all shoppers wait, are compared
between the middle and the last third of the run. Ends with 1 on growth (from five minutes on: memory by more than 5 % and 8 MB,
ten files, p50 by half and 20 ms, p99 by half and 0.5 s), or if anybody was charged twice or told wrong, or an order is lost or stuck.
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

from campaign.playing import end_politely
from campaign.soaking import STORES_SOAKED, Sample, Soaked, soaked


def _say(line: str) -> None:
    print(f"soak: {line}", file=sys.stderr, flush=True)


def show(found: Soaked, console: Console) -> None:
    table = Table(title="start, middle and end")
    for name in ("", "after s", "app MB", "app files", "worker MB", "worker files", "p50 ms", "p99 s"):
        table.add_column(name, justify="left" if not name else "right")
    looks = {"start": found.samples[0], "middle": found.samples[len(found.samples) // 2], "end": found.samples[-1]}
    for name, sample in looks.items():
        table.add_row(name, *_cells(sample))
    console.print(table)
    verdict = found.told.verdict
    wrong = ", ".join(f"{name} {number}" for name, number in found.told.wrong().items())
    console.print(
        f"{verdict.wanted:,} orders, {found.told.submits:,} submits: {verdict.paid_once:,} paid once, {verdict.declined} declined; {wrong}"
    )
    console.print(f"{sum(found.faults.values())} faults: " + ", ".join(f"{name} {number}" for name, number in found.faults.items()))


def _cells(sample: Sample) -> list[str]:
    places = [cell for name in sample.memory_kb for cell in (f"{sample.memory_kb[name] / 1024:.1f}", str(sample.files[name]))]
    return [f"{sample.at:.0f}", *places, f"{(sample.p50_seconds or 0.0) * 1000:.0f}", f"{sample.p99_seconds or 0.0:.2f}"]


@click.command()
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(0.25, 24 * 60), help="How long it sells.")
@click.option("--store", type=click.Choice(STORES_SOAKED), default="sqlite", show_default=True, help="What the fleet shares.")
@click.option("--rate", default=5.0, show_default=True, help="Orders a second; each is sent nearly twice.")
@click.option("--every", default=10.0, show_default=True, help="Seconds between two faults.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(minutes: float, store: str, rate: float, every: float, as_json: bool) -> None:
    """Sell, and break something every few seconds."""
    with TemporaryDirectory() as folder:
        found = asyncio.run(soaked(Path(folder), store, seconds=minutes * 60, rate=rate, every_seconds=every, say=_say))
    if as_json:
        print(json.dumps({**asdict(found), "failures": found.failures()}, indent=2))
    else:
        show(found, Console(width=140))
    for failure in found.failures():
        print(failure, file=sys.stderr)
    sys.exit(1 if found.failures() else 0)


if __name__ == "__main__":
    end_politely()
    main()
