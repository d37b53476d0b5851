"""`cxguard report`."""

from __future__ import annotations

import asyncio

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, find_target, namespace_option, opened_store, target_argument
from cxguard.cli.printing import amount, as_json, print_json, print_table
from cxguard.engine.observing import MEANINGS, Finding
from cxguard.engine.report import SPOOL_PREFIX, Report, build_report, report_rows, report_to_json, would_have

_FIGURES = ("exposed", "bought", "expected", "lost", "range", "money lost")


@click.command("report", short_help="What errors at the checkout cost.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}")
@target_argument
@click.option("--would-have", "would", is_flag=True, help='What a guard with mode="watch" would have done.')
@namespace_option
@as_json
def command(target: str, would: bool, namespace: str, as_json: bool) -> None:
    """What errors at the checkout cost: who met them, how many bought all the same, and what is missing against the others.

    \b
    Examples:
      cxguard report sqlite:///shop.db
      cxguard report shop.main:app --json
      cxguard report sqlite:///shop.db --would-have
    """
    found = find_target(target, namespace=namespace)
    if would:
        figures = asyncio.run(_would_have(found))
        print_json(figures) if as_json else print_would_have(figures)
    else:
        report = asyncio.run(_report(found))
        print_json(report_to_json(report)) if as_json else print_report(report)


async def _report(target: Target) -> Report:
    async with opened_store(target) as store:
        return await build_report(store, namespace=target.guard.namespace)


async def _would_have(target: Target) -> dict[str, int]:
    async with opened_store(target) as store:
        return await would_have(store, namespace=target.guard.namespace)


def print_report(report: Report) -> None:
    """The report as tables."""
    stages = [tuple(map(str, (line.stage, line.reached.sessions, line.reached.bought, line.unexposed.sessions))) for line in report.stages]
    print_table("Visits", ("stage", "reached", "bought", "met no error"), stages, right=("reached", "bought", "met no error"))
    rows = report_rows(report)
    if rows:
        print_table("Errors, the dearest first", tuple(rows[0]), [tuple(row.values()) for row in rows], right=_FIGURES)
    else:
        click.echo("No error was shown at the checkout.")
    operations = [(state, money, str(count)) for (state, money), count in sorted(report.operations.items()) if count]
    if operations:
        print_table("Orders", ("state", "money", "count"), operations, right=("count",))
    for currency, minor in report.unpaid_minor.items():
        click.echo(f"Kept and not paid yet: {amount(minor, currency)}")
    if report.spooled:
        told = ", ".join(f"{count} {name.removeprefix(SPOOL_PREFIX)}" for name, count in report.spooled.items())
        click.echo(f"While the store was away, by the spools of all machines: {told}")
    if report.dropped:
        click.echo(f"{report.dropped} facts about visits were lost: the figures lack them.")


def print_would_have(figures: dict[str, int]) -> None:
    """What watch mode has counted, with what each figure means."""
    if not figures:
        click.echo('Nothing was watched yet: Guard(..., mode="watch"), and some requests on its rules.')
        return
    meanings = {str(finding): meaning for finding, meaning in MEANINGS.items()}
    known = [str(finding) for finding in Finding if str(finding) in figures]
    others = [name for name in figures if name not in meanings]
    rows = [(str(figures[name]), name, meanings.get(name, "")) for name in (*known, *others)]
    print_table("What the guard would have done", ("count", "finding", "meaning"), rows, right=("count",))
