"""Reads `statements.sql`: every statement by its name, with its fragments filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

_HERE = files("cxguard.stores.sqlite")
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_ORDERS = {"": ("created_at", "newest_first"), "_due": ("due_at", "most_overdue_first")}
_LOOK_UPS = ("by_reference", "by_gateway_key", "by_claim", "by_kept_by", "by_session", "by_contact_hash")


def _load() -> Mapping[str, str]:
    parts = _NAME.split((_HERE / "statements.sql").read_text(encoding="utf-8"))
    raw = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    fragments = {name: raw[name] for name in ("whole", "narrowed", "newest_first", "most_overdue_first")}
    statements = {name: text.format(**fragments) for name, text in raw.items() if name not in _LOOK_UPS}
    for name in _LOOK_UPS:
        for suffix, (place, order) in _ORDERS.items():
            statements[name + suffix] = raw[name].format(place=place, ordered=fragments[order], narrowed=fragments["narrowed"])
    return MappingProxyType(statements)


STATEMENTS = _load()
SCHEMA = (_HERE / "schema.sql").read_text(encoding="utf-8")
