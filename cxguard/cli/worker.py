"""`cxguard worker`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import well_written
from cxguard.worker import WorkerState, run_worker, split_target

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@click.command("worker", short_help="Work on what is due: resolve, place, forget.", epilog=EXIT_CODES)
@click.argument("target", metavar="MODULE:APP")
@click.option("--factory", is_flag=True, help="The name is a function that makes the app.")
@click.option("--app-dir", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Where modules are looked for first.")
@click.option("--json", "as_json", is_flag=True, help="Print state changes, and write logs, as JSON lines.")
@click.option("--log-level", default="INFO", show_default=True, type=click.Choice(LEVELS), help="What is logged, and what is worse.")
def command(target: str, factory: bool, app_dir: Path | None, as_json: bool, log_level: str) -> None:
    """Work on what is due: resolve what is unknown, place kept orders, forget what is past its time.

    MODULE:APP is the path that the server gets; the app's lifespan is run, without HTTP. Any number of workers may run.
    SIGTERM or SIGINT: finish what is in hand, then end; a second one: end at once, and another worker takes over.

    \b
    Examples:
      cxguard worker shop.main:app
      cxguard worker --factory shop.main:make_app
      cxguard worker shop.main:guard        (orders of scripts and jobs: no app is needed)
    """
    from cxguard.logs import configure_logging

    with well_written():
        split_target(target)
    configure_logging(json=True if as_json else None, level=log_level)

    def say(state: WorkerState, line: str) -> None:
        click.echo(json.dumps({"state": state, "line": line}) if as_json else f"cxguard worker: {line}")

    try:
        asyncio.run(run_worker(target, factory=factory, app_dir=app_dir, say=say))
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise click.ClickException("ended at once: what was in hand lapses, and another worker takes it over") from None
