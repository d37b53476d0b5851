"""What can be wrong with the gateway, and scripts of faults over time. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

SCRIPT_PHASES_MAX = 50
FLAP_SECONDS = 1.0  # long enough to be noticed by a breaker, short enough to be cruel to it


class FaultMode(StrEnum):
    """How the gateway behaves. Look-ups are touched by `refuse` and `error` only, unless told otherwise."""

    HEALTHY = "healthy"
    SLOW = "slow"  # charges and answers after `slow_seconds`, whether or not the caller still waits
    REFUSE = "refuse"  # the port is shut and its connections are cut
    ERROR = "error"  # 500 before anything was done
    TIME_OUT_BEFORE = "time_out_before"  # never answers, charges nothing
    TIME_OUT_AFTER = "time_out_after"  # charges, then never answers
    LATE = "late"  # takes the request in, never answers, and charges `late_seconds` later
    ERROR_AFTER = "error_after"  # charges, then answers 500
    GARBAGE = "garbage"  # charges, then answers with bytes that nobody can read
    HTML = "html"  # charges, then a proxy answers with a page
    HALF = "half"  # charges, then the answer breaks off in the middle
    THROTTLE = "throttle"  # 429 with Retry-After, before anything was done
    DECLINE = "decline"  # every card is declined
    FLAP = "flap"  # healthy and `error` by turns, each for FLAP_SECONDS


@dataclass(frozen=True, slots=True)
class Phase:
    """One mode, for a while; *seconds* is None for the last phase, which stays."""

    mode: FaultMode
    seconds: float | None = None


class ScriptError(ValueError):
    """The script cannot be read. The text says which part, and how a script is written."""


_SPELLINGS = {"500": FaultMode.ERROR, "down": FaultMode.REFUSE}
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}
_PART = re.compile(r"(?P<mode>[a-z_0-9]+)(?:\s+(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m)?)?")


def parse_script(text: str) -> tuple[Phase, ...]:
    """Read `healthy 5s, time_out_after 3s, refuse 7s, healthy`. Only the last phase may have no duration.

    Raises:
        ScriptError: an unknown mode, a missing duration, or too many phases.
    """
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= SCRIPT_PHASES_MAX:
        raise ScriptError(f"a script has 1 to {SCRIPT_PHASES_MAX} phases: write for instance `healthy 5s, refuse 7s, healthy`")
    phases = tuple(_phase(part) for part in parts)
    if any(phase.seconds is None for phase in phases[:-1]):
        raise ScriptError("only the last phase may have no duration: write for instance `healthy 5s, refuse`")
    return phases


def script_text(phases: tuple[Phase, ...]) -> str:
    """The script as `parse_script` reads it."""
    return ", ".join(phase.mode if phase.seconds is None else f"{phase.mode} {phase.seconds:g}s" for phase in phases)


def without_flap(mode: FaultMode, *, elapsed_seconds: float) -> FaultMode:
    """The mode at this moment, `flap` taken apart into what it is right now."""
    if mode is not FaultMode.FLAP:
        return mode
    return FaultMode.HEALTHY if int(elapsed_seconds / FLAP_SECONDS) % 2 == 0 else FaultMode.ERROR


def _phase(part: str) -> Phase:
    match = _PART.fullmatch(part)
    if match is None:
        raise ScriptError(f"cannot read {part[:40]!r}: write a mode and a duration, for instance `refuse 7s`")
    number = match["number"]
    return Phase(mode=_mode(match["mode"]), seconds=None if number is None else float(number) * _UNITS[match["unit"] or ""])


def _mode(name: str) -> FaultMode:
    try:
        return _SPELLINGS.get(name) or FaultMode(name)
    except ValueError:
        raise ScriptError(f"no such mode {name[:40]!r}: use one of {', '.join(FaultMode)}") from None
