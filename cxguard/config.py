"""Settings and secrets, each checked once, when the program starts. Every refusal prints the corrected line.

Two secrets, because they live differently. The **naming secret** names things (ids, fingerprints, purchases, gateway
keys): another one would give the same order another name, so it never rotates. The **key ring** seals and signs: its
first key is replaced now and then, the older ones still open what they sealed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cxguard.core.limits import check_limits, limit
from cxguard.errors import ConfigurationError
from cxguard.secret_file import read_or_make

_log = logging.getLogger("cxguard.config")

SECRET_BYTES_MIN = 32  # 256 bits, so that an id says nothing about what it names
_DISTINCT_MIN = 10  # 32 random bytes have fewer distinct values about once in 10**20: it is a placeholder
_SECRET_NAME, _KEYS_NAME = "CXGUARD_SECRET", "CXGUARD_KEYS"
_FRESH = "$(openssl rand -hex 32)"


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the whole guard; the numbers of one kind of request are in its `Rule`.

    Raises:
        ConfigurationError: a value out of its range.
    """

    heartbeat_seconds: float = limit(5.0, 0.2, 600.0, why="how often leases are renewed; a short lease is renewed more often by itself")
    run_seconds_max: float = limit(120.0, 1.0, 3_600.0, why="how long a stop waits for work that is on its way to a gateway")
    spool_items_max: int = limit(10_000, 1, 1_000_000, why="orders and facts in the spool; at ten a second, a quarter of an hour")
    spool_bytes_max: int = limit(
        268_435_456, 1_048_576, 107_374_182_400, why="what they may take on the disk, kept requests included; beyond it, 503"
    )
    link_seconds: float = limit(2_592_000.0, 600.0, 34_560_000.0, why="how long a status link works: as long as answers are kept")

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What names and what seals. Never printed, logged or compared in the open.

    Attributes:
        naming: the naming secret, 32 bytes or more; the same for ever and in every process of the shop.
        ring: the key ring, newest first.
        origin: where they came from, for messages.
    """

    naming: bytes = field(repr=False)
    ring: tuple[bytes, ...] = field(repr=False)
    origin: str

    @property
    def check_value(self) -> bytes:
        """What the store keeps to know the naming secret again. It says nothing about it."""
        return hmac.digest(self.naming, b"cxguard 1 check value", "sha256")

    def require_same(self, stored: bytes) -> None:
        """Refuse a store whose records were named with another secret.

        Raises:
            ConfigurationError: it was another one. Charging now could charge an order again under a new name.
        """
        if not hmac.compare_digest(stored, self.check_value):
            raise ConfigurationError(
                f"the records of this store were named with another naming secret than the one from {self.origin}: every order "
                "would get a new name, and could be charged again, so nothing is charged. Put the old secret back "
                f"({_SECRET_NAME}, or the .secret file beside the database, from its backup), or use an empty store"
            )


def load_secrets(
    *,
    setting_secret: str | bytes | None = None,
    setting_keys: str | Sequence[str | bytes] = (),
    environ: Mapping[str, str] | None = None,
    sqlite_path: Path | None = None,
    in_memory: bool = False,
    used_before: bool = False,
) -> Secrets:
    """Find the secrets: in the settings, then in the environment, then where the store allows it make them.

    Args:
        setting_secret, setting_keys: as given in code: raw bytes, or text in hex or base64; 32 bytes or more each.
            Several keys in one text are separated by commas.
        environ: the process's environment by default; `CXGUARD_SECRET`, and `CXGUARD_KEYS` separated by commas.
        sqlite_path: the database file, for an embedded store: its secrets are made on first use, in a file beside it.
        in_memory: the store dies with the process: so may its secrets. Made at random, with a warning.
        used_before: the store holds a check value already, so its secrets exist somewhere and are not made anew.

    Raises:
        ConfigurationError: none were given and the store needs them; one of the two is missing; too short; unreadable.
    """
    given = os.environ if environ is None else environ
    secret: str | bytes = setting_secret or given.get(_SECRET_NAME, "")
    keys = _listed(setting_keys) or _listed(given.get(_KEYS_NAME, ""))
    if secret or keys:
        _require_both(secret, keys)
        return _decoded(secret, keys, origin="the settings" if setting_secret else f"the environment ({_SECRET_NAME})")
    if sqlite_path is not None:
        return _beside(sqlite_path, used_before=used_before)
    if in_memory:
        _log.warning(
            "secrets were made at random, for this process only: links and seals end with it. Fit for tests and demos; otherwise %s",
            f'set {_SECRET_NAME}="{_FRESH}" and {_KEYS_NAME}="{_FRESH}"',
        )
        return _of_this_process()
    raise ConfigurationError(
        "a store that machines share needs secrets that they share. In the environment of every process:\n"
        f'    export {_SECRET_NAME}="{_FRESH}"   # once, and never changed\n'
        f'    export {_KEYS_NAME}="{_FRESH}"     # to rotate, put a new one in front: new,old'
    )


@cache
def _of_this_process() -> Secrets:
    """The same ones each time: a store in memory outlives a stop of its guard."""
    return Secrets(secrets.token_bytes(32), (secrets.token_bytes(32),), "this process")


def _listed(keys: str | Sequence[str | bytes]) -> tuple[str | bytes, ...]:
    return tuple(part for part in keys.split(",") if part.strip()) if isinstance(keys, str) else tuple(keys)


def _require_both(secret: str | bytes, keys: Sequence[str | bytes]) -> None:
    if not keys:
        raise ConfigurationError(f'the naming secret is set, but no key ring: also set {_KEYS_NAME}="{_FRESH}" (or Guard(..., keys=[...]))')
    if not secret:
        raise ConfigurationError(
            f'the key ring is set, but no naming secret: also set {_SECRET_NAME}="{_FRESH}" (or Guard(..., secret=...)), once and for ever'
        )


def _decoded(secret: str | bytes, keys: Sequence[str | bytes], *, origin: str) -> Secrets:
    ring = tuple(_key(key, name=f"{_KEYS_NAME}, key {number}") for number, key in enumerate(keys, start=1))
    return Secrets(_key(secret, name=_SECRET_NAME), ring, origin)


def _key(value: str | bytes, *, name: str) -> bytes:
    raw = value if isinstance(value, bytes) else _from_text(value.strip())
    if len(raw) < SECRET_BYTES_MIN:
        raise ConfigurationError(
            f"{name} is not {SECRET_BYTES_MIN} bytes or more in hex or base64 (it has {len(raw)}): write {_shell(name)}"
        )
    if len(set(raw)) < _DISTINCT_MIN:
        raise ConfigurationError(f"{name} is not random (too few different bytes): write {_shell(name)}")
    return raw


def _shell(name: str) -> str:
    return f'{name.partition(",")[0]}="{_FRESH}"'


def _from_text(text: str) -> bytes:
    """Hex if it can be hex, else base64 (either alphabet, padded or not); nothing if it is neither."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        unpadded = text.rstrip("=")
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), altchars=b"-_" if set(text) & set("-_") else None, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _beside(sqlite_path: Path, *, used_before: bool) -> Secrets:
    path = sqlite_path.with_name(sqlite_path.name + ".secret")
    lines = read_or_make(path, used_before=used_before, make=_fresh_lines)
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    keys = _listed(found.get(_KEYS_NAME, ""))
    if not found.get(_SECRET_NAME) or not keys:
        raise ConfigurationError(f"{path} has no {_SECRET_NAME}= and {_KEYS_NAME}= line: restore it from the backup of the database")
    return _decoded(found[_SECRET_NAME], keys, origin=str(path))


def _fresh_lines() -> str:
    return (
        "# cxguard's secrets for the database beside it: back both up together, and show this file to nobody.\n"
        "# The first line never changes. To rotate the second, put a new key in front: new,old\n"
        f"{_SECRET_NAME}={secrets.token_hex(32)}\n{_KEYS_NAME}={secrets.token_hex(32)}\n"
    )
