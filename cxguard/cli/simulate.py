"""`cxguard simulate`."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.printing import print_table
from cxguard.testing.simulation.found import keep
from cxguard.testing.simulation.many import play_in_processes
from cxguard.testing.simulation.mutants import MUTANTS, seeds_to_catch
from cxguard.testing.simulation.run import Verdict, never, play, quick
from cxguard.testing.simulation.strategies import Strategy

HUNTS = 3
BY_DICE = frozenset({Strategy.DICE, Strategy.PRIORITIES})
HUNTS_APART = 100_000  # seeds: no two hunts play the same stories


@click.command("simulate", short_help="Play small shops in which everything goes wrong at once, and judge them.", epilog=EXIT_CODES)
@click.option("--seeds", type=click.IntRange(1), default=1_000, show_default=True, help="How many stories.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True, help="How many play at the same time.")
@click.option("--mutants", is_flag=True, help="Put one deliberate bug in after the other, and see how many seeds it takes to catch it.")
@click.option(
    "--strategy",
    type=click.Choice([str(each) for each in Strategy]),
    default=str(Strategy.DICE),
    show_default=True,
    help="How stories are dealt: by the dice (or with priorities), or small ones struck at each turn, at each await, or twice.",
)
@click.option("--keep", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write each seed that failed into this folder.")
@click.option("--told", is_flag=True, help="Print the timeline of the first seed, whatever its end, and play no other.")
def command(seeds: int, start: int, processes: int, mutants: bool, strategy: str, folder: Path | None, told: bool) -> None:
    """Play small shops, each by the dice of its seed, in virtual time, and judge them by the gateway's own ledger.

    Real middleware, engine, queue and breakers on the memory store, in several simulated processes that are frozen and
    killed; late and lost answers, requests that come twice, clients that leave, clocks that are set; a store that restarts,
    or loses its last writes, and a spool. A seed that breaks a promise prints its timeline and ends the run with 1; the
    same seed is the same story again. So does a fault, or a turn of an order, that never came about in a thousand stories.

    With --strategy crashes each seed is one small story, told once for each turn of a process, which dies there; with
    cancels, once for each await of a request, which the server cancels there; with pairs, struck twice.

    \b
    Examples:
      cxguard simulate --seeds 5000
      cxguard simulate --start 339 --told
      cxguard simulate --strategy crashes --seeds 20
      cxguard simulate --mutants --seeds 300
    """
    if mutants:
        _hunt(start, seeds)
        return
    if told:
        with quick():
            verdict = play(start, told=True)
        click.echo(str(verdict))
        raise SystemExit(bool(verdict.wrong))
    began_at, happened, failed, played = time.perf_counter(), Counter[str](), list[Verdict](), 0
    dealt = Strategy(strategy)
    for verdict in play_in_processes(range(start, start + seeds), processes=processes, strategy=dealt):
        played += 1
        happened.update(verdict.happened)
        if verdict.wrong:
            failed.append(verdict)
    _print(played, time.perf_counter() - began_at, happened, failed)
    if folder is not None:
        for verdict in failed:
            click.echo(f"kept in {keep(folder, verdict)}")
    untried = frozenset() if failed or dealt not in BY_DICE else never(happened, played=played)
    if untried:
        click.echo(f"never came about, so it was not tried: {', '.join(sorted(untried))}")
    if failed or untried:
        raise SystemExit(1)


def _print(played: int, seconds: float, happened: Counter[str], failed: list[Verdict]) -> None:
    print_table("What came about", ("fault or turn", "times"), [(what, f"{count:,}") for what, count in sorted(happened.items())])
    for verdict in failed:
        click.echo(str(verdict))
    click.echo(f"{played:,} stories in {seconds:.1f} s ({played / seconds:,.0f} a second): {len(failed)} broke a promise")


def _hunt(start: int, most: int) -> None:
    """One line for each bug; three hunts, from other seeds each."""
    rows, missed = [], 0
    for mutant in MUTANTS:
        caught = [seeds_to_catch(mutant, start=start + hunt * HUNTS_APART, most=most) for hunt in range(HUNTS)]
        missed += None in caught
        middle = sorted(most + 1 if each is None else each for each in caught)[HUNTS // 2]
        each = ", ".join("-" if seeds is None else f"{seeds:,}" for seeds in caught)
        rows.append((mutant.name, mutant.what, each, "-" if middle > most else f"{middle:,}"))
    print_table("Deliberate bugs", ("bug", "what it does", f"seeds, {HUNTS} hunts", "median"), rows)
    click.echo(f"{len(MUTANTS)} bugs, {missed} of them not caught in each hunt of {most:,} seeds")
    if missed:
        raise SystemExit(1)
