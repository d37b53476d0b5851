"""Numbers that a shop may set: each with its range and the reason for its default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, fields
from typing import Any

from cxguard.errors import ConfigurationError


def limit(default: float, least: float, most: float, *, why: str) -> Any:
    """A dataclass field for a number that may be set."""
    return field(default=default, kw_only=True, metadata={"least": least, "most": most, "why": why})


def check_limits(settings: Any, *, named: str = "") -> None:
    """Refuse a number that is out of its range.

    Args:
        named: what comes before the number where it is written: the name of a purpose.

    Raises:
        ConfigurationError: the first one, and the line to write instead.
    """
    for wrong, correction in breaches(settings):
        raise ConfigurationError(f"{wrong}: write {type(settings).__name__}({named}{correction})")


def breaches(settings: Any) -> Iterator[tuple[str, str]]:
    """Every number that is out of its range: what is wrong, and the correction."""
    for one in fields(settings):
        if "least" not in one.metadata:
            continue
        value, least, most = getattr(settings, one.name), one.metadata["least"], one.metadata["most"]
        if _fits(value, least=least, most=most, whole=isinstance(one.default, int)):
            continue
        kind = "a whole number" if isinstance(one.default, int) else "a number"
        shown = f"{one.name}={value!r}"
        yield f"{shown} is not {kind} from {least:.10g} to {most:.10g} ({one.metadata['why']})", f"{one.name}={one.default:.10g}"


def _fits(value: Any, *, least: float, most: float, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return False
    return least <= value <= most
