"""Amounts for people: minor units with the currency's own number of decimals (ISO 4217)."""

from __future__ import annotations

_DECIMALS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}


def decimals(currency: str) -> int:
    """How many decimals the currency has: 2 unless the table says otherwise."""
    return _DECIMALS.get(currency.upper(), 2)


def major(amount_minor: int, currency: str) -> str:
    """4999 EUR is `49.99`, 4999 JPY is `4999`: exact, without grouping, the same in every locale."""
    places = decimals(currency)
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
