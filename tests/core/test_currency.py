"""Amounts for people."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.currency import AMOUNT_MINOR_MAX, DECIMALS, amount_fault, decimals, major


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


def test_a_currency_that_is_not_in_the_table_is_written_with_two_decimals() -> None:
    """As most are."""
    assert (decimals("XTS"), major(4999, "XTS")) == (2, "49.99")


@pytest.mark.parametrize(
    ("amount_minor", "currency", "least", "says"),
    [
        (1, "EUR", 1, ""),
        (0, "EUR", 0, ""),
        (AMOUNT_MINOR_MAX, "JPY", 1, ""),
        (0, "EUR", 1, "'0' is no amount"),
        (AMOUNT_MINOR_MAX + 1, "EUR", 1, "is no amount"),
        (49.99, "EUR", 1, "'49.99' is no amount"),
        (True, "EUR", 1, "'True' is no amount"),
        (4999, "eur", 1, "'eur' is no currency"),
        (4999, None, 1, "'None' is no currency"),
        (4999, ["EUR"], 1, "is no currency"),
        ("x" * 90, "EUR", 1, repr("x" * 24)),
        (4999, "x" * 90, 1, repr("x" * 8)),
    ],
)
def test_what_is_wrong_with_an_amount_is_said(amount_minor: Any, currency: Any, least: int, says: str) -> None:
    """Nothing where nothing is; at its edges; and no more of what was given than helps to find it."""
    said = amount_fault(amount_minor, currency, least=least)
    assert says in said and bool(said) is bool(says)
    assert least != 1 or amount_fault(amount_minor, currency) == said
