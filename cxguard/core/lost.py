"""After a store has lost its tail: what a gateway says about keys that a lost record may have used, and what follows.

A failover or a restore can take back records that were acknowledged. Whoever presses again then looks new, and may have
paid. Gateway keys are derived, so that the keys of every life of a lost record are known without it. The gateway is asked
about one after the other, before the first charge:

    charged                         that is this order's charge: adopt it
    needs the shopper, processing,
      no answer                     doubt: nothing is charged until it is known
    declined, refunded              that life is over: the next one
    not found, surely not charged   nothing under this key; after two of them in a row there was no further life
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

LOST_BACK_SECONDS = 2 * 86_400.0  # an order waits a day at most, and its shopper, or a script, may come back a day later
LIVES_MAX = 8  # of one operation that are looked at; a shopper has given up long before
SILENT_MAX = 2  # in a row: one life may have ended before anything was sent
NOT_FOUND = "not_found"


class Lost(StrEnum):
    """What follows from what was said so far."""

    LOOK = "look"  # about the key of the next life
    ADOPT = "adopt"
    DOUBT = "doubt"
    CLEAR = "clear"  # nothing stands: charge


def judge_lost(said: Sequence[Outcome], *, sure: bool) -> Lost:
    """What follows from what one gateway *said* about the keys of the lives so far, the first one first.

    Args:
        sure: "not found" can be believed: the gateway honours keys, so that a late charge would be the same one, or all
            that was under way when the store lost its tail must have shown up by now.
    """
    if not said:
        return Lost.LOOK
    last = said[-1]
    if isinstance(last, Charged):
        return Lost.ADOPT
    if isinstance(last, NeedsShopper) or (isinstance(last, Unknown) and last.why != NOT_FOUND):
        return Lost.DOUBT
    if isinstance(last, Unknown) and not sure:
        return Lost.DOUBT
    silent = len(said) >= SILENT_MAX and all(isinstance(each, Unknown | NotCharged) for each in said[-SILENT_MAX:])
    return Lost.CLEAR if silent or len(said) >= LIVES_MAX else Lost.LOOK


def life_after(said: Sequence[Outcome], *, generation: int) -> int:
    """The first life that has not ended with a decline or a refund, if the first one asked about was *generation*."""
    over = [number for number, each in enumerate(said) if isinstance(each, Declined | Refunded)]
    return generation + over[-1] + 1 if over else generation
