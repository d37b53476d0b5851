"""A breaker's state as JSON, for a store that shares it between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cxguard.core.breaker import BreakerState, Counts, Forced, Label, Probe

_FRESH = {name: getattr(BreakerState(), name) for name in BreakerState.__dataclass_fields__}


def to_json(state: BreakerState) -> dict[str, Any]:
    """A plain mapping that `from_json` reads back."""
    return asdict(state)


def from_json(value: Mapping[str, Any]) -> BreakerState:
    """Read what `to_json` wrote; members that are missing or unknown (another version) are passed over.

    Raises:
        ValueError: it is not a breaker's state.
    """
    try:
        members = {name: value[name] for name in BreakerState.__dataclass_fields__ if name in value}
        plain = {name: type(_FRESH[name])(told) for name, told in members.items() if isinstance(_FRESH[name], int | float | str)}
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
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"that is not a breaker's state ({type(error).__name__}): start from BreakerState()") from error


def _read(kind: type[Any], value: Mapping[str, Any]) -> Any:
    return kind(**{name: value[name] for name in kind.__dataclass_fields__ if name in value})


def _read_forced(value: Mapping[str, Any] | None) -> Forced | None:
    if value is None:
        return None
    return Forced(Label(value["label"]), str(value["reason"]), float(value["until"]), str(value.get("by", "")))
