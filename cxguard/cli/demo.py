"""`cxguard demo`."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import find_target, opened_store
from cxguard.cli.printing import console, print_json, print_table
from cxguard.cli.report import print_report
from cxguard.engine.report import build_report

if TYPE_CHECKING:
    from cxguard.demo.judge import Verdict
    from cxguard.demo.run import Addresses, DemoResult
    from cxguard.demo.run import Progress as Step

SHOPPERS_MAX = 5_000  # more than two processes of this machine can serve in the outage's ten seconds

_ROWS = {
    "wanted": "orders wanted",
    "paid_once": "paid once",
    "charged_twice": "charged twice",
    "declined": "declined by the bank",
    "false_declines": "told 'declined' though charged",
    "false_paid": "told 'paid' though not",
    "lost": "lost",
    "cancelled_told": "cancelled and told",
    "open": "still open",
}


@click.command("demo", short_help="A shop in an outage, without and with the guard.", epilog=EXIT_CODES)
@click.option("--headless", is_flag=True, help="Run, print and end; nothing stays up. So does DEMO_EXIT=1 in the environment.")
@click.option("--json", "as_json", is_flag=True, help="Print only the two verdicts, as JSON.")
@click.option("--shoppers", default=300, show_default=True, type=click.IntRange(1, SHOPPERS_MAX), help="How many want an order.")
@click.option("--seed", default=7, show_default=True, help="Another crowd, just as impatient.")
def command(headless: bool, as_json: bool, shoppers: int, seed: int) -> None:
    """A shop goes through a payment outage twice, without and with the guard; the gateway's own books say what came of it.

    Then shop and desk stay up, until Ctrl-C. Ends with 1 unless, guarded, nobody was charged twice, told wrong, lost or
    left open, and most got what they came for.

    \b
    Examples:
      cxguard demo
      cxguard demo --headless --json --shoppers 300 --seed 7
    """
    try:
        from cxguard.demo.run import run_demo
    except ImportError as error:
        raise click.ClickException(
            f"the demo needs a server and a client ({error.name}): run pip install 'cxguard[server,html]'"
        ) from error
    stays = not (headless or as_json or os.environ.get("DEMO_EXIT") == "1")
    with tempfile.TemporaryDirectory(prefix="cxguard-demo-") as made, _progress(shoppers, shown=not as_json) as progress:
        show = _Show(Path(made), stays=stays, as_json=as_json, progress=progress)
        try:
            result = asyncio.run(run_demo(shoppers=shoppers, seed=seed, progress=show.step, linger=show.linger, folder=Path(made)))
        except KeyboardInterrupt:
            if show.result is None:
                raise
            result = show.result  # it was up to be looked at: Ctrl-C is how that ends
    failures = result.failures()
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        raise SystemExit(1)


@contextmanager
def _progress(shoppers: int, *, shown: bool) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), disable=not shown) as progress:
        progress.add_task("without the guard", total=shoppers)
        progress.add_task("with the guard", total=shoppers, start=False)
        yield progress


class _Show:
    """What the demo shows while it runs, and at its end."""

    def __init__(self, folder: Path, *, stays: bool, as_json: bool, progress: Progress) -> None:
        self._folder = folder
        self._stays = stays
        self._as_json = as_json
        self._progress = progress
        self.result: DemoResult | None = None

    def step(self, step: Step) -> None:
        task = self._progress.tasks[int(step.guarded)].id
        self._progress.start_task(task)
        self._progress.update(task, completed=step.left)

    async def linger(self, result: DemoResult, addresses: Addresses) -> None:
        """Print both verdicts and what the errors cost; keep shop and desk up, where that is wanted."""
        self.result = result
        self._progress.stop()
        if self._as_json:
            print_json(result.to_json())
            return
        _print_verdicts(result.unguarded, result.guarded)
        await self._print_report()
        if self._stays:
            _print_addresses(addresses)
            await asyncio.Event().wait()

    async def _print_report(self) -> None:
        """What the errors of the guarded run cost, from the guard's own store: written beside the shop's books."""
        target = find_target(f"sqlite:///{self._folder / 'guarded' / 'guard.db'}")
        async with opened_store(target) as store:
            print_report(await build_report(store, namespace=target.guard.namespace))


def _print_verdicts(unguarded: Verdict, guarded: Verdict) -> None:
    left, right = unguarded.to_json(), guarded.to_json()
    rows = [(words, str(left[name]), str(right[name])) for name, words in _ROWS.items()]
    columns = ("by the gateway's own ledger", "without", "with the guard")
    print_table("What became of the same shoppers in the same outage", columns, rows, right=columns[1:])


def _print_addresses(addresses: Addresses) -> None:
    """Where to look, in the order in which one would. The password was made for this run, and ends with it."""
    click.echo(f"the shop              {addresses.shop}/")
    click.echo(f"the desk              {addresses.desk}   name {addresses.desk_name}, password {addresses.desk_password}")
    click.echo(f"break the gateway     {addresses.gateway_control}/control")
    click.echo("Ctrl-C ends it.")
