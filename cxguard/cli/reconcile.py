"""`cxguard reconcile`."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from typing import Any

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, find_target, opened_guard, target_argument
from cxguard.cli.printing import as_json, print_json, print_table
from cxguard.engine.reconciling import Reconciled, reconcile
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import ListsPayments
from cxguard.stores.address import without_password

_UNITS = {"m": 60.0, "h": 3_600.0, "d": 86_400.0}
_AGE = re.compile(r"(\d{1,6})([mhd])")
TOLD_EVERY = 500


class Age(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """`30m`, `24h` or `7d`, in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = _AGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no age: write for instance 30m, 24h or 7d", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


@click.command("reconcile", short_help="Compare the gateways' own books with the store.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}")
@target_argument
@click.option("--since", type=Age(), default="24h", show_default=True, help="How far back.")
@click.option("--until", type=Age(), default="0m", show_default=True, help="Up to how long ago.")
@click.option("--gateway", default="", help="Only this one, by its name.")
@as_json
def command(target: str, since: float, until: float, gateway: str, as_json: bool) -> None:
    """Compare each gateway's own list of payments with the store: every night, say. Prints and records each break.

    Nothing is charged or refunded here. What a gateway says about a key of ours is brought in as a fact, and the worker
    goes on from there by its own rules; the rest is for a person. Ends with 1 when there is a break.

    \b
    Examples:
      cxguard reconcile shop.main:app
      cxguard reconcile shop.main:app --since 7d --until 1d --gateway stripe:shop:live
    """
    looks = asyncio.run(_look(find_target(target), since=since, until=until, only=gateway, quiet=as_json))
    breaks = [each for look in looks for each in look.breaks]
    if as_json:
        print_json({"gateways": [{**asdict(look), "breaks": [asdict(each) for each in look.breaks]} for look in looks]})
    else:
        rows = [(str(each.kind), each.reference or "-", each.payment_id or "-", each.ours, each.theirs) for each in breaks]
        if rows:
            print_table("", ("break", "order", "payment", "ours", "the gateway's"), rows)
        for look in looks:
            counted = f"{look.payments} payments ({look.foreign} not ours), {look.records} records"
            click.echo(f"{look.gateway}: {counted}, {len(look.breaks)} breaks")
    if breaks:
        raise SystemExit(1)


async def _look(target: Target, *, since: float, until: float, only: str, quiet: bool) -> list[Reconciled]:
    if not target.guard.gateways:
        named = without_password(target.text)
        raise ConfigurationError(f"{named!r} has no gateway whose books could be read: name the program, shop.main:app")
    async with opened_guard(target) as guard:
        gateways = [each for name, each in guard.gateways.items() if only in ("", name)]
        readable = [each for each in gateways if isinstance(each, ListsPayments)]
        if not readable:
            known, what = ", ".join(guard.gateways), f"gateway {only!r}" if only else "gateway here"
            raise ConfigurationError(f"no {what} with books to read: the adapter needs list_payments; there are {known}")
        for gateway in gateways:
            if not isinstance(gateway, ListsPayments) and not quiet:
                click.echo(f"{gateway.name}: its adapter has no list_payments, so it was not looked at", err=True)
        now = guard.clock.now()
        return [await reconcile(guard.engine, each, since=now - since, until=now - until, told=_progress(quiet)) for each in readable]


def _progress(quiet: bool) -> Any:
    def told(seen: Reconciled) -> None:
        if not quiet and seen.payments % TOLD_EVERY == 0:
            click.echo(f"{seen.gateway}: {seen.payments} payments read ...", err=True)

    return told
