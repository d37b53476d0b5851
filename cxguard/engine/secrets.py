"""The secrets of a guard, and whether the store's records were named with the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxguard.config import Secrets, load_secrets
from cxguard.engine.whereabouts import refuse_relocated
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore

SECRET_CHECK = "secret-check"  # noqa: S105 - a name: where a store keeps the check value of the naming secret


Given = tuple[str | bytes | None, str | Sequence[str | bytes]]


async def secrets_of(store: Store, file: Path | None, *, namespace: str, given: Given) -> Secrets:
    """Load the secrets, and have the store remember (or confirm) which naming secret it is used with.

    Args:
        file: the database file of an embedded store; None for every other.
        given: naming secret and key ring, as given in code.

    Raises:
        ConfigurationError: none can be found, or it was another one; or the records were moved to another store.
        StoreRelocated: they are being moved.
    """
    await refuse_relocated(store, namespace=namespace)
    check = await store.load(check_key(namespace))
    secrets = load_secrets(
        setting_secret=given[0],
        setting_keys=given[1],
        sqlite_path=file,
        in_memory=isinstance(store, MemoryStore),
        used_before=check.revision > 0,
    )
    await confirm_secrets(store, secrets, namespace=namespace)
    return secrets


def shared_secrets(given: Given, *, in_memory: bool) -> Secrets:
    """The secrets of a store that machines share. They come from elsewhere, so they are there also while it is away.

    Raises:
        ConfigurationError: none can be found.
    """
    return load_secrets(setting_secret=given[0], setting_keys=given[1], in_memory=in_memory)


async def confirm_secrets(store: Store, secrets: Secrets, *, namespace: str) -> None:
    """Have *store* remember which naming secret it is used with, or confirm that it is this one.

    Raises:
        ConfigurationError: it was another one.
    """
    key = check_key(namespace)
    check = await store.load(key)
    if check.revision == 0 and not await store.swap(key, revision=0, value=secrets.check_value):
        check = await store.load(key)
    if check.revision > 0:
        secrets.require_same(check.value)


def check_key(namespace: str) -> str:
    """Under which small value a store keeps it."""
    return f"{SECRET_CHECK}:{namespace}"


def file_of(store: Store) -> Path | None:
    """The file of an embedded store; None for every other."""
    path = getattr(store, "path", None)
    return path if isinstance(path, Path) else None
