"""A breaker's state as JSON, for a store that shares it between processes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cxguard.core.breaker import BreakerState, Counts, Forced, Label, Probe

COUNT_MAX = 2**53  # beyond it a float cannot count by one, and far beyond there is none to compare with

_FIRST: dict[type[Any], Any] = {Counts: Counts(), Probe: Probe("", 0.0)}
_FRESH = {name: getattr(BreakerState(), name) for name in BreakerState.__dataclass_fields__}


def to_json(state: BreakerState) -> dict[str, Any]:
    """A plain mapping that `from_json` reads back."""
    return {**_members(state), "now_counts": _members(state.now_counts), "last_counts": _members(state.last_counts)} | {
        "probes": [_members(probe) for probe in state.probes],
        "forced": None if state.forced is None else _members(state.forced),
    }


def _members(value: BreakerState | Counts | Probe | Forced) -> dict[str, Any]:
    """One level of it: `asdict` would copy each number deeply, and a shop writes this at each failure."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def from_json(value: Mapping[str, Any]) -> BreakerState:
    """Read what `to_json` wrote; members that are missing or unknown (another version) are passed over.

    Raises:
        ValueError: it is not a breaker's state.
    """
    try:
        members = {name: value[name] for name in BreakerState.__dataclass_fields__ if name in value}
        plain = {name: as_like(_FRESH[name], told) for name, told in members.items() if isinstance(_FRESH[name], int | float | str)}
        return BreakerState(
            **{
                **plain,
                "label": Label(members.get("label", Label.CLOSED)),
                "now_counts": _read(Counts, members.get("now_counts") or {}),
                "last_counts": _read(Counts, members.get("last_counts") or {}),
                "probes": tuple(_read(Probe, probe) for probe in members.get("probes") or ()),
                "forced": _read_forced(members.get("forced")),
            }
        )
    except (TypeError, AttributeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"that is not a breaker's state ({type(error).__name__}): start from BreakerState()") from error


def as_like(like: int | float | str, told: Any) -> Any:
    """*told* as what *like* is. What is none would break each call that looks at it, and a time without an end would be for good.
    A count that nothing can have counted is taken as the nearest one that could be: below zero it would never be enough.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    read = type(like)(told)
    if isinstance(read, float) and not math.isfinite(read):
        raise ValueError(f"{read} is no time")
    return min(max(read, 0), COUNT_MAX) if isinstance(read, int) else read


def _read(kind: type[Counts | Probe], value: Mapping[str, Any]) -> Any:
    first = _FIRST[kind]
    return replace(first, **{name: as_like(getattr(first, name), value[name]) for name in kind.__dataclass_fields__ if name in value})


def _read_forced(value: Mapping[str, Any] | None) -> Forced | None:
    if value is None:
        return None
    return Forced(Label(value["label"]), str(value["reason"]), as_like(0.0, value["until"]), str(value.get("by", "")))
