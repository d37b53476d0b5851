"""What the shopper agreed to when an order was kept for later, and whether a charge without the shopper is covered by it."""

from __future__ import annotations

from dataclasses import dataclass

NO_CONSENT = "no_consent"
CONSENT_ENDED = "consent_ended"
OVER_CONSENT = "over_consent"


@dataclass(frozen=True, slots=True)
class Consent:
    """The shopper's word, on record.

    Attributes:
        terms: the version of the text that was agreed to.
        at, until: when it was given and when it ends; wall clock, seconds since the epoch.
        ceiling_minor, currency: the most that may be charged; None where the rule does not name the amount.
    """

    terms: str
    at: float
    until: float
    ceiling_minor: int | None = None
    currency: str | None = None


def late_refusal(consent: Consent | None, *, amount_minor: int | None, currency: str | None, now: float) -> str:
    """Why a charge without the shopper must not be sent; empty: the shopper agreed to it.

    Args:
        amount_minor, currency: what is to be charged; None: not known before `later` says it.
        now: wall clock, seconds since the epoch.
    """
    if consent is None:
        return NO_CONSENT
    if now >= consent.until:
        return CONSENT_ENDED
    if amount_minor is None or consent.ceiling_minor is None:
        return ""
    return OVER_CONSENT if currency != consent.currency or amount_minor > consent.ceiling_minor else ""
