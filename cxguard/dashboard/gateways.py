"""The page of gateways: how the breakers of all processes stand, and what a person decides about one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cxguard.core.breaker import Label
from cxguard.core.breaker_shared import Said
from cxguard.dashboard.reading import breaker_words
from cxguard.engine.casefile import REASON_CHARS_MAX
from cxguard.guard import Guard

SPANS = ((15, "15 minutes"), (60, "an hour"), (240, "4 hours"), (1_440, "a day"))
_MINUTES = frozenset(str(minutes) for minutes, _ in SPANS)


@dataclass(frozen=True, slots=True)
class BreakerLine:
    """One breaker, and whether a person's word holds."""

    gateway: str
    kind: str
    method: str
    label: str
    more: str
    forced: bool


def breaker_lines(guard: Guard, *, now: float) -> tuple[BreakerLine, ...]:
    """Every breaker that this process knows of: its own, and those that others have told of."""
    return tuple(
        BreakerLine(view.gateway, view.kind, view.method, view.label.value, breaker_words(view, now=now), bool(view.forced_reason))
        for view in guard.engine.breakers.states()
    )


async def said_lately(guard: Guard) -> tuple[Said, ...]:
    """What people decided, the newest first; nothing where that cannot be read."""
    try:
        return tuple(reversed((await guard.breakers.read()).said))
    except ValueError:
        return ()


async def decide(guard: Guard, form: Mapping[str, str], *, by: str) -> str:
    """Do what the form says. Returns why nothing was done, or "".

    Raises:
        StoreUnavailable: it may hold or not.
    """
    name = (form.get("gateway", ""), form.get("kind", ""), form.get("method", ""))
    if name not in {(view.gateway, view.kind, view.method) for view in guard.engine.breakers.states()}:
        return "There is no such gateway any more: nothing was done."
    label, minutes, why = form.get("label", ""), form.get("minutes", ""), form.get("why", "").strip()[:REASON_CHARS_MAX]
    if label == "":
        await guard.breakers.say(name, None, by=by, reason=why, family=not name[2])
        return ""
    if label not in (Label.OPEN, Label.CLOSED) or minutes not in _MINUTES or not why:
        return "Nothing was done: choose open or closed, for how long, and say why."
    await guard.breakers.say(name, Label(label), reason=why, seconds=int(minutes) * 60.0, by=by, family=not name[2])
    return ""
