"""What the first argument of a command stands for: a store's address, or the guard of a program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cxguard.errors import ConfigurationError
from cxguard.guard import Guard
from cxguard.rules import Shop
from cxguard.stores.base import Store

TARGET_HELP = """TARGET is a store's address (sqlite:///shop.db), a machine's spool (spool:////var/lib/shop/spool.db, to look into), or the
app or guard of a program (shop.main:app)."""
SPOOL = "spool:///"

target_argument = click.argument("target")
namespace_option = click.option(
    "--namespace", default="shop", show_default=True, help="Which shop on the store, as in Guard(namespace=...); of an address only."
)


@dataclass(frozen=True, slots=True)
class Target:
    """A guard to look through, and the app around it if a program was named; `spool`: its store is one machine's spool."""

    text: str
    guard: Guard
    app: Any = None
    spool: bool = False


def find_target(text: str, *, namespace: str = "shop") -> Target:
    """The guard that *text* names; for an address, one that knows no rules.

    Raises:
        click.UsageError: it is neither a program nor an address that a store could have.
        ConfigurationError: there is nothing of that name.
    """
    if text.startswith(SPOOL):  # a spool is a store of its own, in a file like an embedded one's
        return Target(text, _guard_at(text.replace(SPOOL, "sqlite:///", 1), namespace=namespace), spool=True)
    if "://" in text:
        return Target(text, _guard_at(text, namespace=namespace))
    if ":" not in text.strip(":"):
        raise click.UsageError(f"{text!r} is neither a store's address nor a program: write sqlite:///shop.db, or shop.main:app")
    from cxguard.worker import find_guard, load_target

    loaded = load_target(text)
    guard = find_guard(loaded, target=text)
    return Target(text, guard, app=None if loaded is guard else loaded)


def _guard_at(url: str, *, namespace: str) -> Guard:
    """A guard without rules on the store of that address. Looking must not make a store where there is none."""
    if url.startswith("memory:"):
        raise click.UsageError("memory:// lives and ends with its process: there is nothing to see from here; name a sqlite:/// store")
    with well_written():
        guard = Guard(url, shop=Shop("cxguard", url="/"), namespace=namespace, duties=False)
    path = file_of(guard.store)
    if path is not None and not path.exists():
        raise ConfigurationError(f"there is no store at {path}: name the file that the shop uses")
    return guard


@contextmanager
def well_written() -> Iterator[None]:
    """An address that no store could have is a mistake in the command, and nothing that was found."""
    try:
        yield
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


def file_of(store: Store) -> Path | None:
    """The file of an embedded store."""
    path: Path | None = getattr(store, "path", None)
    return path


@asynccontextmanager
async def opened_store(target: Target) -> AsyncIterator[Store]:
    """The store alone: enough to look, and needs no secrets."""
    store = target.guard.store
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def opened_guard(target: Target) -> AsyncIterator[Guard]:
    """The whole guard, without its duties: a look at an order must not begin to place orders.

    Raises:
        ConfigurationError: nobody acts in a spool: its orders are charged, cancelled and opened in the store alone.
    """
    if target.spool:
        raise ConfigurationError(
            "a spool can be listed and shown, and nothing more: it is forwarded by itself when the store is back; "
            "to cancel before that, use the order's status page"
        )
    await target.guard.start(duties=False)
    try:
        yield target.guard
    finally:
        await target.guard.stop()
