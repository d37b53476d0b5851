"""What a shop's orders go through when its store server does: each fault under load, with the gateway's ledger as the judge.

    python benchmarks/store_faults.py                        every fault, most of a minute each
    python benchmarks/store_faults.py --only postgresql      those whose name contains it
    python benchmarks/store_faults.py --results faults.jsonl     resumable: what is in the file is not run again
    python benchmarks/store_faults.py --json

Two processes of the shop and a worker take 15 orders a second, six in ten of them sent more than once, while the server is
killed, frozen or cut off, and the gateway breaks off some of its answers. Ends with 1 unless nobody was
charged twice or told what was not so, no order is lost or stuck, and every page without money was there throughout.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # the fleet and the servers are those of the tests

import redis_faults
import server_faults
from server_faults import judged

FAULTS = {**server_faults.FAULTS, **redis_faults.FAULTS}
COLUMNS = ("charged twice", "false words", "lost", "stuck")


def run(name: str) -> dict[str, Any]:
    """One fault, in a folder of its own. A fleet that cannot even be judged is a failure, too."""
    with TemporaryDirectory() as folder:
        try:
            told = asyncio.run(judged(FAULTS[name], Path(folder), say=lambda line: _say(f"{name}: {line}")))
        except Exception as error:  # noqa: BLE001 - the others are still to come
            return {"fault": name, "failures": [f"not judged: {type(error).__name__}: {error}"]}
    return {"fault": name, "wrong": told.wrong(), "failures": told.failures(), **asdict(told)}


def _say(line: str) -> None:
    print(f"store_faults: {line}", file=sys.stderr, flush=True)


def known(results: Path | None) -> dict[str, dict[str, Any]]:
    """What an earlier run has written down, by fault."""
    if results is None or not results.exists():
        return {}
    rows = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    return {row["fault"]: row for row in rows}


def show(rows: Mapping[str, dict[str, Any]], console: Console) -> None:
    table = Table(title="faults of the store, and what became of the orders")
    names = ("fault", "orders", "submits", "paid once", *COLUMNS, "other pages", "longest s")
    for name in names:
        table.add_column(name, justify="left" if name == "fault" else "right")
    for name, row in rows.items():
        table.add_row(name, *(_cells(row) if "verdict" in row else ["not judged"]))
    console.print(table)


def _cells(row: Mapping[str, Any]) -> list[str]:
    verdict = row["verdict"]
    counts = [verdict["wanted"], row["submits"], verdict["paid_once"], *(row["wrong"][column] for column in COLUMNS)]
    return [*map(str, counts), f"{row['pings'] - row['pings_failed']} of {row['pings']}", f"{row['longest_wait_seconds']:.1f}"]


@click.command()
@click.option("--only", default="", help="Faults whose name contains this.")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False), help="A file that keeps each result, and is gone on from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(only: str, results: Path | None, as_json: bool) -> None:
    """Every fault of every store, one after another."""
    rows = known(results)
    for name in [each for each in FAULTS if only in each and each not in rows]:
        rows[name] = run(name)
        if results is not None:
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[name]) + "\n")
    wanted = {name: rows[name] for name in FAULTS if only in name}
    if as_json:
        print(json.dumps(list(wanted.values()), indent=2))
    else:
        show(wanted, Console(width=150))
    failures = [f"{name}: {failure}" for name, row in wanted.items() for failure in row["failures"]]
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
