"""What a shopper agreed to, against what is to be charged without them: every cell."""

from __future__ import annotations

import pytest

from cxguard.core.consent import CONSENT_ENDED, NO_CONSENT, OVER_CONSENT, Consent, late_refusal

CONSENT = Consent("2026-11", at=100.0, until=200.0, ceiling_minor=1_000, currency="EUR")
OPEN = Consent("2026-11", at=100.0, until=200.0)


@pytest.mark.parametrize(
    ("consent", "amount_minor", "currency", "now", "why"),
    [
        (None, 1, "EUR", 100.0, NO_CONSENT),
        (None, None, None, 100.0, NO_CONSENT),
        (CONSENT, 1_000, "EUR", 199.9, ""),
        (CONSENT, 999, "EUR", 100.0, ""),
        (CONSENT, 1_001, "EUR", 100.0, OVER_CONSENT),
        (CONSENT, 1_000, "JPY", 100.0, OVER_CONSENT),
        (CONSENT, 1, "EUR", 200.0, CONSENT_ENDED),
        (CONSENT, 1_001, "EUR", 200.0, CONSENT_ENDED),
        (CONSENT, None, None, 199.9, ""),
        (CONSENT, None, None, 200.0, CONSENT_ENDED),
        (OPEN, 99_999, "EUR", 199.9, ""),
        (OPEN, 99_999, "EUR", 200.0, CONSENT_ENDED),
    ],
)
def test_a_late_charge_is_covered_by_the_shoppers_word_or_refused(
    consent: Consent | None, amount_minor: int | None, currency: str | None, now: float, why: str
) -> None:
    """Nobody agreed, the time is over, too much, another currency: each has its reason; up to the ceiling passes."""
    assert late_refusal(consent, amount_minor=amount_minor, currency=currency, now=now) == why
