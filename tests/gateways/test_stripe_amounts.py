"""Stripe's own units for a few currencies, both ways, exactly or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxguard.core.currency import DECIMALS
from cxguard.gateways.stripe_amounts import UnfitAmount, from_stripe, to_stripe


@pytest.mark.parametrize(
    ("amount_minor", "currency", "amount"),
    [
        (4999, "EUR", 4999),
        (500, "JPY", 500),
        (5, "ISK", 500),
        (5, "UGX", 500),
        (500, "MGA", 5),
        (1045, "HUF", 1045),
        (80045, "TWD", 80045),
        (5120, "KWD", 5120),
    ],
)
def test_the_same_money_in_both_units(amount_minor: int, currency: str, amount: int) -> None:
    """Five krónur are 500 at Stripe, five ariary are 5: a slip here is a hundred times too much or too little."""
    assert to_stripe(amount_minor, currency) == amount
    assert from_stripe(amount, currency) == amount_minor


@pytest.mark.parametrize(("amount_minor", "currency"), [(501, "MGA"), (5124, "KWD"), (1, "BHD"), (1, "JOD"), (1, "OMR"), (1, "TND")])
def test_what_stripe_cannot_count_is_refused(amount_minor: int, currency: str) -> None:
    """No rounding of anybody's money."""
    with pytest.raises(UnfitAmount, match="give a multiple of"):
        to_stripe(amount_minor, currency)


@pytest.mark.parametrize(
    ("amount", "currency"), [(501, "ISK"), (99, "UGX"), (-1, "EUR"), (True, "EUR"), (4.0, "EUR"), ("4", "EUR"), (None, "EUR")]
)
def test_what_is_no_amount_is_none(amount: object, currency: str) -> None:
    """Half a króna, a negative sum, a number in words."""
    assert from_stripe(amount, currency) is None


@given(st.sampled_from(sorted(DECIMALS)), st.integers(1, 99_999_999))
def test_there_and_back_is_the_same(currency: str, amount_minor: int) -> None:
    """Whatever is sent is read as what was asked for."""
    try:
        amount = to_stripe(amount_minor, currency)
    except UnfitAmount:
        return
    assert from_stripe(amount, currency) == amount_minor
