"""`cxguard conform`."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.printing import as_json, print_json, print_table
from cxguard.testing.conform.cases import Conformance
from cxguard.testing.conform.http_file import Template, read_http_file
from cxguard.testing.conform.judging import Result, Verdict
from cxguard.testing.conform.service import Service
from cxguard.testing.shop_process import NotStarted, ShopProcess


@click.command("conform", short_help="Whether any HTTP service keeps the rules of the Idempotency-Key header.", epilog=EXIT_CODES)
@click.argument("url")
@click.option("--request", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True, help="A .http file.")
@click.option("--start", metavar="COMMAND", help="Starts the server; with it, the server is also killed in the middle of requests.")
@click.option("--kill", metavar="COMMAND", help="Kills the server; default: the process of --start, with all its children.")
@click.option("--effects", metavar="URL#/POINTER", default="", help="Where effects are counted: a list or a number in a JSON document.")
@click.option("--at-once", type=click.IntRange(2, 200), default=10, show_default=True, help="How many send one request at the same time.")
@click.option(
    "--patience", type=click.FloatRange(1, 3_600), default=60.0, show_default=True, help="Seconds that a broken request is sent again for."
)
@click.option("--timeout", type=click.FloatRange(1, 600), default=30.0, show_default=True, help="Seconds that one answer may take.")
@click.option("--key-optional", is_flag=True, help="A request without the key is served: do not ask for a 400.")
@as_json
def command(
    url: str,
    file: Path,
    start: str | None,
    kill: str | None,
    effects: str,
    at_once: int,
    patience: float,
    timeout: float,
    key_optional: bool,
    as_json: bool,
) -> None:
    """Send one request in all the ways that go wrong, and compare with the IETF draft's rules. Ends with 1 if a case fails.

    400 without the key, 422 for another payload, 409 or the one answer for many at once, the same status, body and main
    headers on replay, one effect for each key; and, where that can be tried, clients that leave and servers that are killed.
    It really sends the request, about thirty times under keys of its own: to a test system, that nobody else uses meanwhile.

    \b
    The request file:
      POST /pay
      Content-Type: application/json
      Idempotency-Key: {{key}}

    \b
      {"cart": "{{$uuid}}", "amount": 4999}

    {{key}} and {{$uuid}} are new for each key, and the same when the request is sent again. A second request, below a line
    of ###, is sent as "another payload"; without it, a JSON body gets a member more.

    \b
    Examples:
      cxguard conform http://127.0.0.1:8000 --request pay.http
      cxguard conform http://127.0.0.1:8000 --request pay.http --start 'uvicorn shop:app --port 8000' \\
          --effects http://127.0.0.1:9000/ledger#/payments
      cxguard conform https://test.shop.example --request pay.http --start 'ssh test systemctl start shop' \\
          --kill 'ssh test systemctl kill --signal=KILL shop'
    """
    request, other = read_http_file(file.read_text("utf-8"))
    service = Service(_checked(url), effects, timeout)
    process = _process(url, start, kill)
    conformance = Conformance(service, request, other, process, at_once, patience, not key_optional)
    try:
        results = asyncio.run(_run(conformance, running_on=kill is not None))
    except NotStarted as error:
        raise click.ClickException(str(error)) from error
    _print(results, as_json=as_json, request=request)
    if any(one.verdict is Verdict.FAIL for one in results):
        raise SystemExit(1)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{url!r} is no address: write http://host:port")
    return url


def _process(url: str, start: str | None, kill: str | None) -> ShopProcess | None:
    if start is None:
        if kill is not None:
            raise click.UsageError("--kill alone would leave the server dead: say how it comes back with --start")
        return None
    return ShopProcess(start, url=url, kill_command=kill)


async def _run(conformance: Conformance, *, running_on: bool) -> list[Result]:
    async with _served(conformance.process, running_on=running_on):
        return [one async for one in conformance.run(begins=_say)]


@asynccontextmanager
async def _served(process: ShopProcess | None, *, running_on: bool) -> AsyncIterator[None]:
    """The server runs. One that is killed by a command of its own may run already, and runs on afterwards."""
    if process is None:
        yield
        return
    there = await asyncio.to_thread(process.answers)
    if there and not running_on:
        raise click.ClickException(f"somebody answers at {process.url} already: stop it, since --start starts the server that is killed")
    if there:
        yield
        return
    async with process:
        yield


def _say(case: str) -> None:
    """Which case is being tried: it may take a while."""
    if sys.stderr.isatty():
        click.echo(f"  {case} ...", err=True)


def _print(results: list[Result], *, as_json: bool, request: Template) -> None:
    if as_json:
        print_json({"conforms": all(one.verdict is not Verdict.FAIL for one in results), "cases": [asdict(one) for one in results]})
        return
    rows = [(one.case, one.expected, one.seen, str(one.verdict), one.why) for one in results]
    print_table(f"{request.method} {request.path}", ("case", "expected", "seen", "", "why"), rows)
    counts = Counter(one.verdict for one in results)
    click.echo(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]))
    if len(results) == 1:
        click.echo("the others were not tried: the request as it stands has to succeed")
