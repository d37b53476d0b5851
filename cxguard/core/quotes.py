"""Whether the price that the shopper saw still holds, right before a charge without the shopper.

A shop's `revalidate` hook says one of four things, and `judged` says what follows:

    GoOn                 charge what was accepted
    GoOnLower            charge less: good news needs no question
    AskShopper           it costs more, or is not the same any more: nothing is charged until the shopper agrees
    Stop                 it cannot be had any more: the order ends uncharged, and the shopper is told
    no hook              charge what was accepted while the quote holds; after that, ask
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cxguard.core.asks import ORDER_CHANGED, PRICE_UP, QUOTE_ENDED
from cxguard.core.operation import Operation, WaitingFor
from cxguard.core.resolve import Cancel, Hold

STOPPED = "stopped"
_CODE = re.compile(r"[a-z][a-z_]{0,39}")


@dataclass(frozen=True, slots=True)
class GoOn:
    """Price and stock are as they were."""


@dataclass(frozen=True, slots=True)
class GoOnLower:
    """It costs less now: *amount_minor* is charged. `later` reads it as `op.amount_minor`."""

    amount_minor: int


@dataclass(frozen=True, slots=True)
class AskShopper:
    """The shopper has to agree first: to a higher price, or to an order that is not the same any more.

    Attributes:
        amount_minor: what it costs now, if that is known.
    """

    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """It cannot be had any more. *why* is a short code (`out_of_stock`) for the record; other words become `stopped`."""

    why: str = STOPPED


def judged(operation: Operation, said: object, *, now: float) -> GoOn | GoOnLower | Hold | Cancel:
    """What follows from what the hook *said*; None: there is no hook.

    Args:
        now: wall clock, seconds since the epoch.
    """
    accepted = operation.amount_minor
    match said:
        case None:
            over = operation.quote_until is not None and now >= operation.quote_until
            return Hold(QUOTE_ENDED, WaitingFor.SHOPPER) if over else GoOn()
        case GoOn():
            return GoOn()
        case GoOnLower() if type(said.amount_minor) is int and said.amount_minor > 0 and accepted is not None:
            return said if said.amount_minor <= accepted else Hold(PRICE_UP, WaitingFor.SHOPPER)
        case AskShopper():
            more = type(said.amount_minor) is int and accepted is not None and said.amount_minor > accepted
            return Hold(PRICE_UP if more else ORDER_CHANGED, WaitingFor.SHOPPER)
        case Stop():
            return Cancel(said.why if isinstance(said.why, str) and _CODE.fullmatch(said.why) else STOPPED)
        case _:
            return Hold(f"revalidate hook gave a {type(said).__name__[:40]} that cannot be used", WaitingFor.AGENT)
