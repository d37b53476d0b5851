"""What the end of a call says about a gateway, for its breaker. It never says anything about the shopper's card."""

from __future__ import annotations

from typing import assert_never

from cxguard.core.breaker import Heard
from cxguard.core.outcomes import Charged, Declined, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

ANSWERED = frozenset({"not_found", "processing"})  # unknown to us, but said by a gateway that works


def heard_from(outcome: Outcome, *, late: bool, probe: bool) -> Heard:
    """Whether *outcome* speaks for the gateway, against it, or about something else."""
    match outcome:
        case Charged() | Refunded() | NeedsShopper():
            return Heard.SLOW if late else Heard.OK
        case Declined():
            # a gateway that can say "declined" works: enough for a probe, but declines neither open nor keep closed
            return Heard.OK if probe else Heard.NEUTRAL
        case NotCharged(retryable=True, why=why, retry_after_seconds=seconds):
            return Heard.THROTTLED if seconds is not None or why == "throttled" else Heard.FAILURE
        case NotCharged():
            return Heard.NEUTRAL  # about this one order, or about our own side: a probe has to find out more
        case Unknown(why=why):
            return Heard.OK if why in ANSWERED else Heard.FAILURE
        case _:
            assert_never(outcome)
