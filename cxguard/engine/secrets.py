"""The secrets of a guard, and whether the store's records were named with the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxguard.config import Secrets, load_secrets
from cxguard.engine.whereabouts import refuse_relocated
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore

SECRET_CHECK = "secret-check"  # where a store keeps the check value of the naming secret


async def secrets_of(
    store: Store, file: Path | None, *, namespace: str, given: tuple[str | bytes | None, str | Sequence[str | bytes]]
) -> Secrets:
    """Load the secrets, and have the store remember (or confirm) which naming secret it is used with.

    Args:
        file: the database file of an embedded store; None for every other.
        given: naming secret and key ring, as given in code.

    Raises:
        ConfigurationError: none can be found, or it was another one; or the records were moved to another store.
        StoreRelocated: they are being moved.
    """
    await refuse_relocated(store, namespace=namespace)
    key = f"{SECRET_CHECK}:{namespace}"
    check = await store.load(key)
    setting_secret, setting_keys = given
    secrets = load_secrets(
        setting_secret=setting_secret,
        setting_keys=setting_keys,
        sqlite_path=file,
        in_memory=isinstance(store, MemoryStore),
        used_before=check.revision > 0,
    )
    if check.revision == 0 and not await store.swap(key, revision=0, value=secrets.check_value):
        check = await store.load(key)
    if check.revision > 0:
        secrets.require_same(check.value)
    return secrets


def file_of(store: Store) -> Path | None:
    """The file of an embedded store; None for every other."""
    path = getattr(store, "path", None)
    return path if isinstance(path, Path) else None
