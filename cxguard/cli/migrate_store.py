"""`cxguard migrate-store`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cxguard.cli.main import EXIT_CODES
from cxguard.cli.opening import file_of, well_written
from cxguard.cli.printing import as_json, print_json, print_table
from cxguard.clock import SystemClock
from cxguard.config import Secrets, load_secrets
from cxguard.core.operation import RECORD_VERSION, Operation, State
from cxguard.core.relocation import is_frozen
from cxguard.engine.cold import open_member
from cxguard.engine.relocating import Moved, Relocator, pages_of, verify
from cxguard.engine.secrets import SECRET_CHECK
from cxguard.engine.whereabouts import NOTICE_SECONDS
from cxguard.errors import ConfigurationError, SealKeyMissing
from cxguard.seal import Seal
from cxguard.stores.address import open_store, without_password
from cxguard.stores.base import Query, Store
from cxguard.stores.reading import ReadingStore
from cxguard.stores.record import leased

TOLD_EVERY = 2_000  # records between two lines of progress


@dataclass(slots=True)
class Result:
    """What the command has done, and found."""

    moved: Moved = field(default_factory=Moved)
    wrong: dict[str, str] = field(default_factory=dict)
    verified: bool = False

    @property
    def good(self) -> bool:
        """Whether nothing is left and nothing is wrong."""
        return self.moved.complete and not self.wrong


@click.command("migrate-store", short_help="Move all orders to another store.", epilog=EXIT_CODES)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--namespace", default="shop", show_default=True, help="Which shop on the store, as in Guard(namespace=...).")
@click.option("--stopped", is_flag=True, help="The shop is stopped: do not wait for its processes to notice the move.")
@click.option("--wait", "patience", default=180, show_default=True, help="Seconds to wait for orders that somebody has in hand.")
@click.option("--verify", "verifying", is_flag=True, help="Compare both stores afterwards, record by record. TO must not be in use yet.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved, and what stands in the way.")
@as_json
def command(source: str, target: str, namespace: str, stopped: bool, patience: int, verifying: bool, dry_run: bool, as_json: bool) -> None:
    """Move all orders of a shop from the store at FROM to the one at TO: those that wait, and those that have ended, so that
    replays, look-ups and refunds go on. None is lost, doubled, or can be acted on in both places, wherever the command is
    killed: run it again, and it goes on.

    Stop the shop and its workers; move; start them on TO. Processes that still run on FROM notice within seconds, and answer
    503 (not charged) from then on; what they have in hand is waited for. FROM is never worked on again: no process starts on it.
    Nor does one start on TO before all orders have arrived, also if the command was killed: what is missing would look new there.

    Both stores need the same secrets: copy the .secret file of a SQLite store, or set CXGUARD_SECRET and CXGUARD_KEYS to what
    stands in it. Visits and their counters stay behind, and so do the state of breakers and what mode="watch" has counted.
    FROM keeps a frozen copy of each order, with what is sealed in it: delete it when you need no way to look back.

    \b
    Examples:
      cxguard migrate-store sqlite:///shop.db postgresql://shop@db.example/shop --dry-run
      cxguard migrate-store sqlite:///shop.db postgresql://shop@db.example/shop --stopped --verify
    """
    if dry_run:
        found = asyncio.run(_look(source, target, namespace=namespace))
        print_json(found) if as_json else _print_look(found)
        if found["in_the_way"]:
            raise SystemExit(1)
        return
    notice = 0.0 if stopped else NOTICE_SECONDS
    result = asyncio.run(_move(source, target, namespace=namespace, notice_seconds=notice, patience=patience, verifying=verifying))
    print_json(_json(result)) if as_json else _print(result)
    if not result.good:
        raise SystemExit(1)


async def _move(source: str, target: str, *, namespace: str, notice_seconds: float, patience: float, verifying: bool) -> Result:
    async with _opened(source, must_exist=True) as old, _opened(target, with_secrets_of=old, namespace=namespace) as new:
        relocator = Relocator(
            old,
            new,
            namespace=namespace,
            origin=_address(source, old),
            to=_address(target, new),
            notice_seconds=notice_seconds,
            patience_seconds=patience,
            tell=_progress(),
        )
        result = Result(await relocator.run())
        if verifying:
            result.wrong, result.verified = await verify(old, new, namespace=namespace), True
        return result


@asynccontextmanager
async def _opened(url: str, *, must_exist: bool = False, with_secrets_of: Store | None = None, namespace: str = "") -> AsyncIterator[Store]:
    store = _store_at(url, must_exist=must_exist)
    if with_secrets_of is not None:
        secrets = await _secrets_for(store, with_secrets_of, namespace=namespace)
    await store.start()
    try:
        if with_secrets_of is not None:
            await _remember(store, secrets, namespace=namespace)
        yield store
    finally:
        await store.stop()


def _store_at(url: str, *, must_exist: bool) -> Store:
    if url.startswith("memory:"):
        raise click.UsageError("memory:// lives and ends with its process: name a sqlite:/// or postgresql:// store")
    with well_written():
        store = open_store(url, clock=SystemClock())
    path = file_of(store)
    if must_exist and path is not None and not path.exists():
        raise ConfigurationError(f"there is no store at {path}: name the file that the shop uses")
    return store


async def _secrets_for(target: Store, source: Store, *, namespace: str) -> Secrets:
    """The secrets that the shop will have on *target*: the very ones of *source*, or nothing is moved.

    Raises:
        ConfigurationError: they are not there, or others.
    """
    check = await source.load(f"{SECRET_CHECK}:{namespace}")
    if not check.revision:
        raise ConfigurationError(f"no shop was ever started here in the namespace {namespace!r}: give the one of Guard(namespace=...)")
    try:
        secrets = load_secrets(sqlite_path=file_of(target), used_before=True)
    except ConfigurationError as error:
        what = "the store to move to must have the secrets of the old one, and has none"
        raise ConfigurationError(f"{what}: {_how_to_bring_secrets(file_of(source), file_of(target))}") from error
    secrets.require_same(check.value)
    await _check_ring(source, Seal(secrets.ring), namespace=namespace)
    return secrets


def _how_to_bring_secrets(old: Path | None, new: Path | None) -> str:
    if old is not None and new is not None:
        return f"run: cp -p {old}.secret {new}.secret"
    if old is not None:
        return f"set CXGUARD_SECRET and CXGUARD_KEYS to what stands in {old}.secret"
    return "set CXGUARD_SECRET and CXGUARD_KEYS as the shop has them"


async def _check_ring(source: Store, seal: Seal, *, namespace: str) -> None:
    """Whether the key ring opens what the newest orders have sealed, and whatever waits: that is to be placed from it."""
    newest = (await source.search(Query(namespace))).operations
    waiting = [one async for page in pages_of(source, namespace=namespace, states=(State.QUEUED, State.HELD)) for one in page]
    for operation in (*newest, *waiting):
        for member in ("request", "answer", "contact"):
            sealed = getattr(operation, member)
            if sealed is not None:
                _check_opens(seal, operation, member, sealed)


def _check_opens(seal: Seal, operation: Operation, member: str, sealed: bytes) -> None:
    try:
        open_member(seal, operation, member, sealed)
    except SealKeyMissing as error:
        raise ConfigurationError(f"order {operation.reference}: {error}") from error


async def _remember(target: Store, secrets: Secrets, *, namespace: str) -> None:
    """The target knows its secret from now on. One that it has is the same, or it is another shop's store."""
    key = f"{SECRET_CHECK}:{namespace}"
    if not await target.swap(key, revision=0, value=secrets.check_value):
        secrets.require_same((await target.load(key)).value)


def _address(url: str, store: Store) -> str:
    path = file_of(store)
    return f"sqlite:///{path}" if path is not None else without_password(url)


def _progress() -> Any:
    told = Counter[str]()

    def tell(moved: Moved) -> None:
        done = sum(moved.counts.values()) // TOLD_EVERY
        if done > told["lines"]:
            told["lines"] = done
            click.echo(f"{sum(moved.counts.values())} orders looked at, {sum(moved.states.values())} moved", err=True)

    return tell


# --- a dry run


async def _look(source: str, target: str, *, namespace: str) -> dict[str, Any]:
    """What would be moved, and what stands in the way. Writes nothing."""
    in_the_way: list[str] = []
    async with _opened(source, must_exist=True) as old:
        new = _store_at(target, must_exist=False)
        away = await _away(new)
        try:
            await _secrets_for(new, old, namespace=namespace)
        except ConfigurationError as error:
            in_the_way.append(str(error))
        states, busy, newer, there = await _count(old, namespace=namespace)
    in_the_way += [f"{newer} orders were written by a newer cxguard: run that version's migrate-store"] if newer else []
    counts = {"states": dict(states), "moved_before": there, "in_hand_now": busy, "newer": newer}
    return {**counts, "in_the_way": in_the_way, "target": away}


async def _away(store: Store) -> str:
    """Why nothing can be read there; empty: it answers."""
    reading = ReadingStore(store)
    await reading.start()
    await reading.stop()
    return reading.away


async def _count(store: Store, *, namespace: str) -> tuple[Counter[str], int, int, int]:
    states, busy, newer, there = Counter[str](), 0, 0, 0
    now = await store.clock()
    async for page in pages_of(store, namespace=namespace):
        for operation in page:
            if is_frozen(operation):
                there += 1
            else:
                states[str(operation.state)] += 1
                busy += leased(operation, now=now)
                newer += operation.version > RECORD_VERSION
    return states, busy, newer, there


def _print_look(found: dict[str, Any]) -> None:
    print_table("Would be moved", ("state", "orders"), [(state, str(count)) for state, count in found["states"].items()], right=("orders",))
    click.echo(f"moved before: {found['moved_before']}; in somebody's hands now: {found['in_hand_now']}")
    if found["target"]:
        click.echo(f"the store to move to: {found['target']}")
    for line in found["in_the_way"]:
        click.echo(f"in the way: {line}")


# --- what is printed


def _json(result: Result) -> dict[str, Any]:
    moved = result.moved
    return {
        "moved": {str(state): count for state, count in moved.states.items()},
        "records": {str(became): count for became, count in moved.counts.items()},
        "facts_carried_after": moved.notes,
        "held_beside_another": moved.beside,
        "complete": moved.complete,
        "left": {reference: str(why) for reference, why in moved.left.items()},
        "verified": result.verified,
        "wrong": result.wrong,
    }


def _print(result: Result) -> None:
    moved = result.moved
    print_table("Moved", ("state", "orders"), [(str(state), str(count)) for state, count in moved.states.items()], right=("orders",))
    for reference in moved.beside:
        click.echo(f"{reference}: the new store has another order of this purchase; this one waits for a person there (cxguard orders)")
    for reference, why in moved.left.items():
        click.echo(f"{reference}: {_LEFT[str(why)]}")
    for reference, wrong in result.wrong.items():
        click.echo(f"{reference}: {wrong}")
    if not moved.complete:
        click.echo("Not all is moved: run it again. What is frozen is worked on nowhere until it has arrived.")
    elif result.verified and not result.wrong:
        click.echo("All is moved, and both stores agree. Start the shop on the new one.")
    elif not result.wrong:
        click.echo("All is moved. Start the shop on the new one.")


_LEFT = {
    "busy": "somebody has it in hand",
    "newer": "written by a newer cxguard: run that version's migrate-store",
    "conflict": "the new store has another order of this name: both shops took it; see which one stands, and end the other by hand",
}
