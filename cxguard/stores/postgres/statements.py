"""Reads `statements.sql`: every statement by its name, with its fragments filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_HERE = files("cxguard.stores.postgres")
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def _load() -> Mapping[str, str]:
    parts = _NAME.split((_HERE / "statements.sql").read_text(encoding="utf-8"))
    raw = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    return MappingProxyType({name: text.replace("{whole}", raw["whole"]) for name, text in raw.items()})


def _migrations() -> tuple[tuple[int, str], ...]:
    folder = _HERE / "migrations"
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return tuple((int(name.partition("_")[0]), (folder / name).read_text(encoding="utf-8")) for name in found)


STATEMENTS = _load()
MIGRATIONS = _migrations()
