"""What a request says about being kept for later, read only when there is an outage to keep it through."""

from __future__ import annotations

from cxguard.engine.keeping import Keeping
from cxguard.guard import Guard
from cxguard.rules import Arrival, Rule
from cxguard.rules.sources import AnySource, PerPurchase, parts_of, read_raw


def keeping_of(guard: Guard, rule: Rule, arrival: Arrival) -> Keeping:
    """What has to be looked at before the order in *arrival* is kept."""

    async def can_wait() -> bool:
        said = rule.can_wait if isinstance(rule.can_wait, bool) else await read_raw(rule.can_wait, arrival)
        return said is True

    async def agreed() -> bool:
        return rule.consent is None or await says_yes(rule.consent, arrival, terms=rule.terms)

    return Keeping(rule.caps or guard.caps, can_wait, agreed, terms=rule.terms, consent_seconds=rule.consent_seconds)


_YES = frozenset({"true", "on", "yes", "1"})  # what JSON, a ticked box and a form's select say


async def says_yes(source: AnySource, arrival: Arrival, *, terms: str) -> bool:
    """Whether the request says yes there: a truth value, a ticked box, or the version of the text. Anything else is no."""
    for part in parts_of(source):
        said = await read_raw(part, arrival) if not isinstance(part, PerPurchase) else None
        if said is not None:
            return said is True or str(said).strip().lower() in _YES or str(said).strip() == terms
    return False
