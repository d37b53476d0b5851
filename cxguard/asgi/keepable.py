"""What a request says about being kept for later, read only when there is an outage to keep it through."""

from __future__ import annotations

from typing import Any

from cxguard.engine.keeping import Keeping
from cxguard.errors import BadBody
from cxguard.guard import Guard
from cxguard.rules import Arrival, Rule
from cxguard.rules.moments import moment_of
from cxguard.rules.sources import AnySource, PerPurchase, parts_of, read_raw


def keeping_of(guard: Guard, rule: Rule, arrival: Arrival) -> Keeping:
    """What has to be looked at before the order in *arrival* is kept."""

    async def can_wait() -> bool:
        said = rule.can_wait if isinstance(rule.can_wait, bool) else await read_raw(rule.can_wait, arrival)
        return said is True

    async def agreed() -> bool:
        return rule.consent is None or await says_yes(rule.consent, arrival, terms=rule.terms)

    async def quoted() -> float | None:
        said = await first_said(rule.quote_until, arrival) if rule.quote_until is not None else None
        if said is None:
            return None
        moment = moment_of(said)
        if moment is None:
            raise BadBody("the end of the price's validity is neither seconds since the epoch nor ISO 8601 with a zone: send one of them")
        return moment

    return Keeping(
        rule.caps or guard.caps,
        can_wait,
        agreed,
        terms=rule.terms,
        consent_seconds=rule.consent_seconds,
        quoted=quoted,
        quote_seconds=rule.quote_seconds,
    )


_YES = frozenset({"true", "on", "yes", "1"})  # what JSON, a ticked box and a form's select say


async def says_yes(source: AnySource, arrival: Arrival, *, terms: str) -> bool:
    """Whether the request says yes there: a truth value, a ticked box, or the version of the text. Anything else is no."""
    said = await first_said(source, arrival)
    return said is True or (said is not None and str(said).strip().lower() in {*_YES, terms.lower()})


async def first_said(source: AnySource, arrival: Arrival) -> Any:
    """What the first part that has anything gives, as it is."""
    for part in parts_of(source):
        said = await read_raw(part, arrival) if not isinstance(part, PerPurchase) else None
        if said is not None:
            return said
    return None
