"""Reads `statements.sql`: every statement by its name, with its fragments and its schema filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

_HERE = files("cxguard.stores.postgres")
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@lru_cache(maxsize=64)
def statements_of(schema: str) -> Mapping[str, str]:
    """The statements for one schema, whose name is a plain one."""
    filled = dict(_RAW)
    for fragment in [name for name in _RAW if f"{{{name}}}" in _TEXT]:  # one that holds another comes after it
        filled = {name: each.replace(f"{{{fragment}}}", filled[fragment]) for name, each in filled.items()}
    return MappingProxyType({name: each.replace("{schema}", f'"{schema}"') for name, each in filled.items()})


def _migrations() -> tuple[tuple[int, str], ...]:
    folder = _HERE / "migrations"
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple((int(name.partition("_")[0]), (folder / name).read_text(encoding="utf-8")) for name in found)


_TEXT = (_HERE / "statements.sql").read_text(encoding="utf-8")
_PARTS = _NAME.split(_TEXT)
_RAW: Mapping[str, str] = {name: text.strip() for name, text in zip(_PARTS[1::2], _PARTS[2::2], strict=True)}
MIGRATIONS = _migrations()
