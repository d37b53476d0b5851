"""The numbers of a rule: each with its range and the reason for its default."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field, fields
from typing import Any


def limit(default: float, least: float, most: float, *, why: str) -> Any:
    """A dataclass field for a number of a rule."""
    return field(default=default, kw_only=True, metadata={"least": least, "most": most, "why": why})


def breaches(rule: Any) -> Iterator[tuple[str, str]]:
    """Every number that is out of its range: what is wrong, and the correction."""
    for one in fields(rule):
        if "least" not in one.metadata:
            continue
        value, least, most = getattr(rule, one.name), one.metadata["least"], one.metadata["most"]
        if _fits(value, least=least, most=most, whole=isinstance(one.default, int)):
            continue
        kind = "a whole number" if isinstance(one.default, int) else "a number"
        shown = f"{one.name}={value!r}"
        yield f"{shown} is not {kind} from {least:.10g} to {most:.10g} ({one.metadata['why']})", f"{one.name}={one.default:.10g}"


def _fits(value: Any, *, least: float, most: float, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return math.isfinite(value) and least <= value <= most
