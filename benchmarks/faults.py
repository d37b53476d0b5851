"""The fault campaign: 55 faults, at the level where each means something, and how often a promise was broken by one.

    python benchmarks/faults.py                              everything: some hours
    python benchmarks/faults.py --results faults.jsonl       resumable: what is in the file is not run again
    python benchmarks/faults.py --only 13 --only 17          two faults; also by a part of the name
    python benchmarks/faults.py --store postgresql           what is played on that store, and tests that are about it or about none
    python benchmarks/faults.py --only 4 --unguarded         the same scenes, and no guard: ends with 1 if the judge sees nothing
    python benchmarks/faults.py --mutants --store sqlite     scenes with a deliberate bug each: ends with 1 if the judge misses one
    python benchmarks/faults.py --list

A scene is two or more processes of a shop, a worker, a gateway and a store, and shoppers who press more than once; the gateway's
own ledger, the shop's books and what each shopper heard are the judge. Where a test tries a fault at its level already, that
test is run. A fault that never came about was not tried, and fails. Ends with 1 unless no promise was broken.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))  # fleet, servers and faults are those of the tests

from campaign.playing import PROMISES, end_politely
from campaign.row import STORES, Row, Trial, rows
from campaign.running import Line, Result, line_of, run

SAID_MAX = 600  # characters of progress about one trial; the results have all


def _say(line: str) -> None:
    print(f"faults: {line}", file=sys.stderr, flush=True)


def known(results: Path | None) -> dict[str, Result]:
    """What an earlier run has written down, by trial."""
    if results is None or not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    return {line["trial"]: Result(**{name: value for name, value in line.items() if name != "trial"}) for line in lines}


def wanted_rows(only: Sequence[str]) -> list[Row]:
    """Those with one of these numbers, or one of these parts in their names."""
    return [row for row in rows() if not only or str(row.number) in only or any(each in row.fault for each in only if not each.isdigit())]


def wanted_trials(row: Row, *, store: str, unguarded: bool, mutants: bool) -> list[Trial]:
    trials = row.unguarded() if unguarded else row.with_mutant() if mutants else row.trials()
    return [trial for trial in trials if not store or trial.store in ("", store)]


def tried(trials: Iterable[Trial], results: dict[str, Result], *, file: Path | None) -> None:
    """Run what has no result yet, and keep each as soon as it is there."""
    left = list({trial.name: trial for trial in trials if trial.name not in results}.values())
    for number, trial in enumerate(left, start=1):
        _say(f"{number} of {len(left)}: {trial.name}")
        result = run(trial)
        _say("; ".join(result.failures)[:SAID_MAX] or result.not_tried or f"held, {result.seconds:.0f} s")
        results[trial.name] = result
        if file is not None:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"trial": trial.name, **result.to_json()}) + "\n")


def show(lines: Sequence[Line], console: Console) -> None:
    table = Table(title="faults, and how often each promise was broken")
    for name in ("#", "fault", "level", "tests", "plays", "came about", "orders", *PROMISES, "result"):
        table.add_column(name, justify="left" if name in ("fault", "level", "result") else "right")
    for line in lines:
        broken = ["" if count is None else str(count) for count in line.wrong.values()]
        counts = [line.tests or "", line.plays or "", f"{line.happened:,}", f"{line.orders:,}" if line.orders else ""]
        table.add_row(str(line.row.number), line.row.fault, ", ".join(line.row.levels), *map(str, counts), *broken, line.verdict)
    console.print(table)
    console.print(_by_kind(lines))
    for promise, meaning in PROMISES.items():
        console.print(f"{promise}: {meaning}", highlight=False)


def _by_kind(lines: Sequence[Line]) -> Table:
    """The same in a few lines."""
    table = Table(title="by what they befall")
    for name in ("what", "faults", "tests", "plays", "orders", *PROMISES, "held"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for kind in dict.fromkeys(line.row.kind for line in lines):
        of_kind = [line for line in lines if line.row.kind == kind]
        broken = [sum(line.wrong[promise] or 0 for line in of_kind) for promise in PROMISES]
        sums = [sum(line.tests for line in of_kind), sum(line.plays for line in of_kind), sum(line.orders for line in of_kind)]
        held = sum(line.verdict == "held" for line in of_kind)
        table.add_row(kind, str(len(of_kind)), *(f"{number:,}" for number in (*sums, *broken)), f"{held} of {len(of_kind)}")
    return table


def show_list(wanted: Mapping[int, Sequence[Trial]], console: Console) -> None:
    for row in rows():
        for trial in wanted.get(row.number, ()):
            console.print(f"{row.number:>2}  {row.fault}: {trial.way} {trial.name}", highlight=False, markup=False)


@click.command()
@click.option("--only", multiple=True, help="A fault's number, or a part of its name; may be given several times.")
@click.option("--store", type=click.Choice(STORES), default=None, help="Play on this store only.")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False), help="A file that keeps each result, and is gone on from.")
@click.option("--unguarded", is_flag=True, help="Play the scenes with a shop that has no guard: each must be seen to break a promise.")
@click.option("--mutants", is_flag=True, help="Play the scenes that have one with a deliberate bug: it must be seen.")
@click.option("--list", "as_list", is_flag=True, help="Print what would be run, and run nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    only: Sequence[str], store: str | None, results: Path | None, unguarded: bool, mutants: bool, as_list: bool, as_json: bool
) -> None:
    """Every fault, one after another."""
    console = Console(width=170)
    wanted = {row.number: wanted_trials(row, store=store or "", unguarded=unguarded, mutants=mutants) for row in wanted_rows(only)}
    if as_list:
        show_list(wanted, console)
        return
    found = known(results)
    tried((trial for trials in wanted.values() for trial in trials), found, file=results)
    lines = [line_of(row, found, trials=wanted[row.number]) for row in rows() if wanted.get(row.number)]
    if as_json:
        print(json.dumps([line.to_json() for line in lines], indent=2))
    else:
        show(lines, console)
    sys.exit(_blind(wanted, found) if unguarded or mutants else _broken(lines))


def _broken(lines: Sequence[Line]) -> int:
    for line in lines:
        for each in line.failures:
            print(f"{line.row.number} {line.row.fault}: {each}", file=sys.stderr)
        for each in line.missing:
            print(f"{line.row.number} {line.row.fault}: not tried: {each}", file=sys.stderr)
    return int(any(line.verdict == "broken" for line in lines))


def _blind(wanted: Mapping[int, Sequence[Trial]], found: Mapping[str, Result]) -> int:
    """What is wrong on purpose must hurt somebody, or the judge is no judge of it."""
    trials = {trial.name for each in wanted.values() for trial in each}
    blind = sorted(name for name in trials if not any(found[name].wrong.get(promise) for promise in ("P1", "P2", "P3")))
    for name in blind:
        print(f"nothing was seen: {name}", file=sys.stderr)
    _say(f"{len(trials) - len(blind)} of {len(trials)} scenes broke a promise, as they should")
    return int(bool(blind))


if __name__ == "__main__":
    end_politely()
    main()
