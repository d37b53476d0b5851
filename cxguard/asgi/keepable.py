"""What a request says about being kept for later, read only when there is an outage to keep it through."""

from __future__ import annotations

from cxguard.engine.keeping import Keeping
from cxguard.guard import Guard
from cxguard.rules import Arrival, Rule
from cxguard.rules.sources import read_raw


def keeping_of(guard: Guard, rule: Rule, arrival: Arrival) -> Keeping:
    """What has to be looked at before the order in *arrival* is kept."""

    async def can_wait() -> bool:
        said = rule.can_wait if isinstance(rule.can_wait, bool) else await read_raw(rule.can_wait, arrival)
        return said is True

    return Keeping(caps=rule.caps or guard.caps, can_wait=can_wait)
