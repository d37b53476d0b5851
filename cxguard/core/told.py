"""What an adapter or a hook handed back, before anything is built on it.

An adapter is somebody's thirty lines. A value of another type, or an amount that is no amount, tells nothing about the
money: the payment stays unknown, with the reason, and is asked about.
"""

from __future__ import annotations

import math

from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown

_OUTCOMES = (Charged, Declined, NotCharged, NeedsShopper, Unknown, Refunded)
_TOLD_CHARS_MAX = 40


def outcome_told(told: object) -> Outcome:
    """*told* itself when it is an outcome that can be true; else `Unknown`, with what is wrong.

    A pause that is no number of seconds is left out: what it belongs to may well be true.
    """
    match told:
        case Charged() | Refunded() if type(told) in _OUTCOMES:
            wrong = _wrong_figures(told)
            return Unknown(f"the gateway adapter said {wrong}") if wrong else told
        case NotCharged() if type(told) is NotCharged:
            return told if _is_pause(told.retry_after_seconds) else NotCharged(told.why, told.retryable, None, told.reroutable)
        case Declined() if type(told) is Declined:
            return told if type(told.reason) is DeclineReason else Declined(code=told.code)
        case Unknown() | NeedsShopper() if type(told) in _OUTCOMES:
            return told
        case _:
            return Unknown(f"the gateway adapter gave a {type(told).__name__[:_TOLD_CHARS_MAX]} for an outcome")


def _wrong_figures(told: Charged | Refunded) -> str:
    amount: object = told.amount_minor
    if type(amount) is not int:
        return f"an amount of type {type(amount).__name__[:_TOLD_CHARS_MAX]}"
    if amount < 0:
        return f"an amount of {amount}"
    currency: object = told.currency
    return "" if isinstance(currency, str) else f"a currency of type {type(currency).__name__[:_TOLD_CHARS_MAX]}"


def _is_pause(seconds: object) -> bool:
    if seconds is None:
        return True
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds) and seconds >= 0
