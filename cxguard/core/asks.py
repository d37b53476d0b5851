"""Reasons for which an order waits for its shopper and nobody else: what was agreed to does not cover a charge.

Nothing is charged, and nothing is looked up, until the shopper says so; after `ASK_SECONDS` the order ends uncharged.
"""

from __future__ import annotations

from cxguard.core.consent import CONSENT_ENDED, NO_CONSENT, OVER_CONSENT
from cxguard.core.operation import Operation, State, WaitingFor, changed

ASK_SECONDS = 86_400.0  # a day: a shopper who has not come back by then has bought elsewhere
PRICE_UP = "price_up"
ORDER_CHANGED = "order_changed"
QUOTE_ENDED = "quote_ended"
CARD_DECLINED = "card_declined"  # of a late charge: its shopper was not there to hear it, and may pay otherwise
TRY_FAILED = "try_failed"  # the shopper went on with it, and the try charged nothing
NEEDS_SHOPPER = "needs_shopper"  # one more step at the bank: not ours to ask, but the shopper may pay otherwise
ASKS = frozenset({NO_CONSENT, CONSENT_ENDED, OVER_CONSENT, PRICE_UP, ORDER_CHANGED, QUOTE_ENDED, CARD_DECLINED, TRY_FAILED})
_WORDS = {CARD_DECLINED: "card", TRY_FAILED: "again"} | dict.fromkeys((PRICE_UP, ORDER_CHANGED, QUOTE_ENDED), "price")
WORDS = frozenset(_WORDS.values())
SHOPPER_LOOK_SECONDS = 60.0  # how often an order that waits for its shopper is looked up: the step at the bank takes minutes


def shopper_ends(operation: Operation, why: str, *, now: float, queue_seconds: float) -> dict[str, float]:
    """When an order that waits for its shopper is looked at, and when it ends: nobody waits for a shopper for ever.

    Where the shopper is asked there is nothing to look up: the order is due again when its time is over.
    """
    if why in ASKS:
        over = operation.give_up_at if operation.state is State.HELD and operation.why == why else None
        end = operation.asked_until or over or now + ASK_SECONDS
        return {"due_at": end, "give_up_at": end}
    return {"due_at": now + SHOPPER_LOOK_SECONDS, "give_up_at": operation.give_up_at or now + queue_seconds}


def asked_words(operation: Operation) -> str:
    """Which wording says what the shopper is asked: `price`, `card`, or nothing in particular."""
    return _WORDS.get(operation.why, "") if operation.state is State.HELD else ""


def may_resume(operation: Operation, *, now: float) -> bool:
    """Whether its shopper can go on with the order: with another card, at the new price, or with their word given anew."""
    over = operation.give_up_at is not None and now >= operation.give_up_at
    waits = operation.state is State.HELD and operation.waiting_for is WaitingFor.SHOPPER
    return waits and not over and not operation.cancel_asked and (operation.why in ASKS or operation.why == NEEDS_SHOPPER)


def gone_on_with(operation: Operation, *, now: float) -> Operation:
    """Its shopper goes on with it: their day, and their link, are kept for the case that the try charges nothing."""
    until = operation.give_up_at if operation.why in ASKS else None
    return changed(operation, asked_until=until or now + ASK_SECONDS, asked_generation=link_generation(operation))


def falls_back(operation: Operation, *, now: float) -> bool:
    """Whether, when this life charges nothing, the order waits for its shopper again instead of being let go."""
    return operation.asked_until is not None and now < operation.asked_until and not operation.cancel_asked


def link_generation(operation: Operation) -> int:
    """The oldest life whose link still leads on with the order: a try that charged nothing uses up none."""
    return operation.generation if operation.asked_until is None else operation.asked_generation
