"""Reasons for which an order waits for its shopper and nobody else: what was agreed to does not cover a charge.

Nothing is charged, and nothing is looked up, until the shopper says so; after `ASK_SECONDS` the order ends uncharged.
"""

from __future__ import annotations

from cxguard.core.consent import CONSENT_ENDED, NO_CONSENT, OVER_CONSENT
from cxguard.core.operation import Operation, State

ASK_SECONDS = 86_400.0  # a day: a shopper who has not come back by then has bought elsewhere
PRICE_UP = "price_up"
ORDER_CHANGED = "order_changed"
QUOTE_ENDED = "quote_ended"
ASKS = frozenset({NO_CONSENT, CONSENT_ENDED, OVER_CONSENT, PRICE_UP, ORDER_CHANGED, QUOTE_ENDED})
SHOPPER_LOOK_SECONDS = 60.0  # how often an order that waits for its shopper is looked up: the step at the bank takes minutes


def shopper_ends(operation: Operation, why: str, *, now: float, queue_seconds: float) -> dict[str, float]:
    """When an order that waits for its shopper is looked at, and when it ends: nobody waits for a shopper for ever.

    Where the shopper is asked there is nothing to look up: the order is due again when its time is over.
    """
    if why in ASKS:
        over = operation.give_up_at if operation.state is State.HELD and operation.why == why else None
        end = over or now + ASK_SECONDS
        return {"due_at": end, "give_up_at": end}
    return {"due_at": now + SHOPPER_LOOK_SECONDS, "give_up_at": operation.give_up_at or now + queue_seconds}
