"""Whether a charge that nobody answered for may be made again, under the very same key: by the gateway, or by the shop's own code.

A gateway that honours keys answers for the key, so this charges no second time, and if nothing was charged before, it is
what the shopper wanted. Not once the key may be forgotten, and not past the shopper's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from cxguard.core.money import Send, unanswered
from cxguard.core.operation import Operation, State

SHOP_KEY_SECONDS = 3_600.0  # how long the gateway of a shop's own code is trusted to remember a key: most do so for a day


def send_to_repeat(operation: Operation, keys: Sequence[str], *, key_lifetime_seconds: float, now: float) -> Send | None:
    """The send to repeat, while its gateway remembers its key and a charge would still be right; else None."""
    if len(keys) > 1 or _word_is_over(operation, now):
        return None
    open_sends = unanswered(operation.sends, operation.notes, keys[0])
    if not open_sends or not is_remembered(operation, keys[0], key_lifetime_seconds, now=now):
        return None
    last = open_sends[-1]
    return last if last.keyed and last.parcel is not None else None


def may_run_again(operation: Operation, keys: Sequence[str], *, now: float) -> bool:
    """Whether the shop's own code may run over what it may have charged: it was accepted for later, and that still holds."""
    accepted = operation.kept and operation.state in (State.RUNNING, State.QUEUED) and operation.answer is None
    if not accepted or len(keys) > 1 or _word_is_over(operation, now):
        return False
    return is_remembered(operation, keys[0], SHOP_KEY_SECONDS, now=now)


def is_remembered(operation: Operation, key: str, seconds: float, *, now: float) -> bool:
    """Counted from the first send of the key: later ones do not lengthen a gateway's memory. One that only a fact speaks of is not:
    nobody knows when it was sent. Nor is one from so far ahead of the clock: it was set back since, and nobody knows for how long."""
    return abs(now - min((send.sent_at for send in operation.sends if send.key == key), default=-inf)) < seconds


def _word_is_over(operation: Operation, now: float) -> bool:
    """Whether the shopper's consent or the price has ended: then the same is not sent again, since it could charge only now."""
    consent, quote_until = operation.consent, operation.quote_until
    return (consent is not None and now >= consent.until) or (quote_until is not None and now >= quote_until)
