"""Why `op.charge` gave no end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Deferral:
    """Why `op.charge` gave no end: for the guard, which answers in the handler's place."""

    why: str = ""
    needs_shopper: bool = False
    hold: bool = False
    asks: bool = False  # the shopper has to agree first
    outage: bool = False  # our side's fault, and surely not charged: the only reason to keep an order for later
    untried_seconds: float | None = None  # the breaker let nothing through, and says when to come back
