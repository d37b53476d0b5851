"""Amounts as Stripe counts them: for a few currencies its smallest unit is not that of ISO 4217.

    ISK, UGX    no decimals any more, but still counted in hundredths: 5 krónur are 500
    MGA         two decimals in ISO 4217, counted in whole ariary: 5.00 are 5
    three decimals    as in ISO 4217, but the last digit must be 0

What cannot be said exactly is not sent. Source: Stripe's page on supported currencies, its lists of zero-decimal and
three-decimal currencies and of special cases.
"""

from __future__ import annotations

from cxguard.core.currency import decimals

_IN_HUNDREDTHS = frozenset({"ISK", "UGX"})
_IN_WHOLES = frozenset({"MGA"})


class UnfitAmount(ValueError):
    """Stripe could only move another amount than this."""


def to_stripe(amount_minor: int, currency: str) -> int:
    """*amount_minor* (minor units of ISO 4217) in Stripe's own unit.

    Raises:
        UnfitAmount: it has decimals that Stripe does not count.
    """
    if currency in _IN_HUNDREDTHS:
        return amount_minor * 100
    if currency in _IN_WHOLES:
        if amount_minor % 100:
            raise UnfitAmount(f"Stripe counts {currency} in wholes: give a multiple of 100")
        return amount_minor // 100
    if decimals(currency) == 3 and amount_minor % 10:
        raise UnfitAmount(f"Stripe rounds {currency} to tens: give a multiple of 10")
    return amount_minor


def from_stripe(amount: object, currency: str) -> int | None:
    """What Stripe says, in minor units of ISO 4217; None when it is no amount, or has decimals that do not exist."""
    if type(amount) is not int or amount < 0:
        return None
    if currency in _IN_HUNDREDTHS:
        return None if amount % 100 else amount // 100
    return amount * 100 if currency in _IN_WHOLES else amount
