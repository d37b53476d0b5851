"""The Lua scripts, one a verb. Each is sent with `prelude.lua` before it, and called by the hash of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_HERE = files("cxguard.stores.redis.scripts")
_PRELUDE = "prelude.lua"


def _load() -> Mapping[str, bytes]:
    prelude = (_HERE / _PRELUDE).read_bytes()
    names = sorted(file.name for file in _HERE.iterdir() if file.name.endswith(".lua") and file.name != _PRELUDE)
    return MappingProxyType({name.removesuffix(".lua"): prelude + (_HERE / name).read_bytes() for name in names})


SCRIPTS = _load()
HASHES = MappingProxyType({name: hashlib.sha1(text, usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()})
