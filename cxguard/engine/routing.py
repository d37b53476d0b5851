"""Which gateways a charge may go to, in order: the second one only after a known not-charge at the first.

A decline is the issuer's word, and another gateway would hear the same; an unknown may be a charge. So only what surely
was not charged, for a reason that lies with the gateway, goes on to the next, under a key and a line of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cxguard.core.outcomes import NotCharged, Outcome
from cxguard.engine.engine import Engine
from cxguard.errors import ConfigurationError
from cxguard.gateways.base import OPERATION_MEMBER, Charge, Gateway
from cxguard.stores.base import Level


@dataclass(frozen=True, slots=True)
class Route:
    """One gateway, and what it would be asked, under which step."""

    gateway: Gateway
    charge: Charge
    step: str


def routes_of(engine: Engine, charge: Charge, *, named: Sequence[str], step: str, operation_id: str) -> list[Route]:
    """Where *charge* may go, in order. Never empty.

    A store that may lose what it acknowledged could lose the line that says that the first gateway was asked: there, the
    first one is the only one.

    Args:
        named: the gateways of the rule or purpose, in order; empty: the guard's first.

    Raises:
        ConfigurationError: there is no such gateway.
    """
    first, *others = named or tuple(engine.gateways)[:1] or ("",)
    if engine.operations.store.level is Level.BEST_EFFORT:
        others = []
    charge = replace(charge, metadata={**charge.metadata, OPERATION_MEMBER: operation_id})
    routes = [Route(_gateway(engine, first), charge, step)]
    for name in others:
        if name in charge.sources:
            routes.append(Route(_gateway(engine, name), replace(charge, source=charge.sources[name]), f"{step}@{name}"))
    return routes


def may_go_on(outcome: Outcome) -> bool:
    """Whether the next gateway may be asked."""
    return isinstance(outcome, NotCharged) and outcome.reroutable


def is_of_step(sent: str, step: str) -> bool:
    """Whether a line's step is *step*, at whichever gateway."""
    return sent == step or sent.startswith(f"{step}@")


def _gateway(engine: Engine, name: str) -> Gateway:
    gateway = engine.gateway(name)
    if gateway is None:
        named = f"{name!r} is not among them" if name else "there is none"
        raise ConfigurationError(f"no gateway to charge with ({named}): Guard(..., gateways=[HttpGateway(...)])")
    return gateway
