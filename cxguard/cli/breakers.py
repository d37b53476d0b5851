"""`cxguard breakers`: look at the breakers of all processes, force one open or closed, release it."""

from __future__ import annotations

import asyncio
import getpass
from dataclasses import asdict
from typing import Any

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import TARGET_HELP, Target, find_target, namespace_option, opened_store, target_argument
from cxguard.cli.printing import as_json, moment, print_json, print_table
from cxguard.core.breaker import FORCED_SECONDS_MAX, BreakerPolicy, BreakerState, Label, forced_now, label_now
from cxguard.core.breaker_shared import Name, Said, Shared
from cxguard.engine.breaker_sharing import Sharing
from cxguard.engine.breakers import Breakers
from cxguard.engine.hints import Hints
from cxguard.stores.base import Store

_COLUMNS = ("gateway", "kind", "method", "state", "why", "until", "by", "trips")
_SAID_COLUMNS = ("at", "by", "breaker", "did", "why", "until")
_MINUTES_MAX = int(FORCED_SECONDS_MAX / 60)


@click.group("breakers", short_help="Look at breakers, force one open or closed.", epilog=f"{TARGET_HELP}\n\n{EXIT_CODES}")
def command() -> None:
    """Breakers of all processes on a store: list, force, release.

    Every process goes by a person's word within a second, until its end. While a breaker is forced open, nothing is
    sent to that gateway; forced closed, everything is, whatever comes back.

    \b
    Examples:
      cxguard breakers list sqlite:///shop.db
      cxguard breakers force sqlite:///shop.db stripe:shop:live charge open --why "bank holiday" --minutes 120
      cxguard breakers release sqlite:///shop.db stripe:shop:live charge
    """


_gateway = click.argument("gateway")
_kind = click.argument("kind", type=click.Choice(["charge", "find", "refund", "capture", "cancel"]))
_method = click.option("--method", help="This method of payment alone; without it all of them, also those that come.")
_by = click.option("--by", default=getpass.getuser, show_default="your user name", help="Who says so; kept on record.")


@command.command("list")
@target_argument
@namespace_option
@as_json
def list_(target: str, namespace: str, as_json: bool) -> None:
    """Every breaker that any process has told of, and what people did about them."""
    shared, now = asyncio.run(_read(find_target(target, namespace=namespace)))
    if as_json:
        found = [_json(name, each.state, now) for name, each in sorted(shared.breakers.items())]
        print_json({"breakers": found, "said": [asdict(said) for said in shared.said]})
        return
    print_table("", _COLUMNS, [_row(name, each.state, now) for name, each in sorted(shared.breakers.items())], right=("trips",))
    if not shared.breakers:
        click.echo("No process has told of a breaker yet: they do so within seconds of their first calls.")
    if shared.said:
        print_table("What people did", _SAID_COLUMNS, [_said_row(said) for said in reversed(shared.said)])


@command.command()
@target_argument
@_gateway
@_kind
@click.argument("label", metavar="open|closed", type=click.Choice(["open", "closed"]))
@click.option("--why", required=True, help="Kept on record, and shown to everybody.")
@click.option("--minutes", default=60, show_default=True, type=click.IntRange(1, _MINUTES_MAX), help="Then it goes on by itself.")
@_method
@_by
@namespace_option
@as_json
def force(
    target: str, gateway: str, kind: str, label: str, why: str, minutes: int, method: str | None, by: str, namespace: str, as_json: bool
) -> None:
    """Open: send nothing to this gateway. Closed: send everything, whatever comes back. For so many minutes."""
    until = asyncio.run(
        _say(
            find_target(target, namespace=namespace), (gateway, kind, method or ""), Label(label), family=method is None,
            reason=why, seconds=minutes * 60.0, by=by,
        )
    )  # fmt: skip
    _tell(gateway, kind, f"forced {label} until {moment(until)} UTC", as_json=as_json, state=label, until=until)


@command.command()
@target_argument
@_gateway
@_kind
@click.option("--why", default="", help="Kept on record.")
@_method
@_by
@namespace_option
@as_json
def release(target: str, gateway: str, kind: str, why: str, method: str | None, by: str, namespace: str, as_json: bool) -> None:
    """Take a person's word back: the breaker goes on by itself."""
    found = find_target(target, namespace=namespace)
    asyncio.run(_say(found, (gateway, kind, method or ""), None, family=method is None, reason=why, by=by))
    _tell(gateway, kind, "goes on by itself", as_json=as_json, state="", until=None)


def _tell(gateway: str, kind: str, words: str, *, as_json: bool, state: str, until: float | None) -> None:
    if as_json:
        print_json({"gateway": gateway, "kind": kind, "forced": state, "until": until})
    else:
        click.echo(f"{gateway} {kind}: {words}")


async def _read(target: Target) -> tuple[Shared, float]:
    async with opened_store(target) as store:
        return await _sharing(target, store).read(), await store.clock()


async def _say(target: Target, name: Name, label: Label | None, *, seconds: float = 0.0, **word: Any) -> float:
    async with opened_store(target) as store:
        hints = Hints(store, target.guard.clock, process="cli")
        try:
            await _sharing(target, store, hints).say(name, label, seconds=seconds, **word)
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        finally:
            await hints.stop()  # when the processes of the shop have been told
        return await store.clock() + seconds


def _sharing(target: Target, store: Store, hints: Hints | None = None) -> Sharing:
    """The store's value needs no secrets, and no guard that runs."""
    clock = target.guard.clock
    return Sharing(Breakers(BreakerPolicy(), clock), store, clock, namespace=target.guard.namespace, process="cli", hints=hints)


def _row(name: Name, state: BreakerState, now: float) -> tuple[str, ...]:
    told = _json(name, state, now)
    return (*name, told["state"], told["why"], moment(told["until"]), told["by"], str(told["trips"]))


def _json(name: Name, state: BreakerState, now: float) -> dict[str, Any]:
    forced, label = forced_now(state, now), label_now(state, now)
    until = forced.until if forced is not None else state.opened_until if label is Label.OPEN else None
    why = forced.reason if forced is not None else state.why if label is not Label.CLOSED else ""
    names = dict(zip(("gateway", "kind", "method"), name, strict=True))
    who = {"forced": forced is not None, "by": forced.by if forced is not None else ""}
    return {**names, "state": label.value, "why": why, "until": until, **who, "trips": state.trips, "revision": state.revision}


def _said_row(said: Said) -> tuple[str, ...]:
    did = f"forced {said.label}" if said.label else "released"
    return moment(said.at), said.by, " ".join(filter(None, said.name)), did, said.reason, moment(said.until)
