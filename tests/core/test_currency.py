"""Amounts for people."""

from __future__ import annotations

import pytest

from cxguard.core.currency import DECIMALS, major


@pytest.mark.parametrize(
    ("amount_minor", "currency", "text"),
    [(4999, "EUR", "49.99"), (5, "eur", "0.05"), (0, "EUR", "0.00"), (-120, "GBP", "-1.20"), (4999, "JPY", "4999"), (4999, "KWD", "4.999")],
)
def test_amount_has_the_currencys_own_decimals(amount_minor: int, currency: str, text: str) -> None:
    """Minor units are written with as many decimals as the currency has."""
    assert major(amount_minor, currency) == text


def test_the_table_of_decimals() -> None:
    """The usual currencies have the decimals that ISO 4217 gives them."""
    assert [DECIMALS[code] for code in ("EUR", "USD", "JPY", "KRW", "KWD", "BHD", "CLF", "HUF", "ISK")] == [2, 2, 0, 0, 3, 3, 4, 2, 0]
    assert all(len(code) == 3 and code.isupper() for code in DECIMALS)
