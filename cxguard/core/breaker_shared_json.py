"""The shared breakers as bytes for a store. Two versions may work side by side: what one does not know, it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cxguard.core.breaker import BreakerState
from cxguard.core.breaker_json import as_like, from_json, to_json
from cxguard.core.breaker_shared import Folded, Name, Said, Shared, SharedBreaker, Voice

VERSION = 1  # a value of a higher one may mean something else: it is not read, and not written over
_NAMES = ("gateway", "kind", "method")
_STATE = frozenset(BreakerState.__dataclass_fields__)
_OF_SHARED = frozenset({"v", "breakers", "batches", "said"})


def shared_to_bytes(shared: Shared) -> bytes:
    """What `shared_from_bytes` reads back."""
    value = {
        **shared.more,
        "v": VERSION,
        "breakers": [_breaker_to_json(name, breaker) for name, breaker in sorted(shared.breakers.items())],
        "batches": {process: [folded.number, folded.at] for process, folded in shared.batches.items()},
        "said": [asdict(said) for said in shared.said],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def shared_from_bytes(value: bytes) -> Shared:
    """Read what `shared_to_bytes` wrote; of nothing, nothing.

    Raises:
        ValueError: it is no such value, or one of a newer version.
    """
    if not value:
        return Shared()
    try:
        read = json.loads(value)
        if read["v"] > VERSION:
            raise ValueError(f"version {read['v']}")
        return Shared(
            breakers=dict(_breaker_from_json(each) for each in read["breakers"]),
            batches={str(process): Folded(int(number), as_like(0.0, at)) for process, (number, at) in read["batches"].items()},
            said=tuple(_said_from_json(each) for each in read.get("said", ())),
            more={name: member for name, member in read.items() if name not in _OF_SHARED},
        )
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the shared breakers cannot be read ({error}): a newer cxguard may write them; each process is alone") from error


def _breaker_to_json(name: Name, breaker: SharedBreaker) -> dict[str, Any]:
    voices = {process: [voice.at, voice.failed] for process, voice in breaker.voices.items()}
    return {**breaker.more, **dict(zip(_NAMES, name, strict=True)), **to_json(breaker.state), "voices": voices}


def _breaker_from_json(value: Mapping[str, Any]) -> tuple[Name, SharedBreaker]:
    known = _STATE | {*_NAMES, "voices"}
    breaker = SharedBreaker(
        state=from_json({member: value[member] for member in _STATE if member in value}),
        voices={str(process): Voice(as_like(0.0, at), bool(failed)) for process, (at, failed) in value["voices"].items()},
        more={member: told for member, told in value.items() if member not in known},
    )
    gateway, kind, method = (str(value[part]) for part in _NAMES)
    return (gateway, kind, method), breaker


def _said_from_json(value: Mapping[str, Any]) -> Said:
    gateway, kind, method = (str(part) for part in value["name"])
    until = value.get("until")
    members = {member: str(value.get(member, "")) for member in ("by", "label", "reason")}
    return Said(
        at=as_like(0.0, value["at"]), name=(gateway, kind, method), until=as_like(0.0, until) if until is not None else None, **members
    )
