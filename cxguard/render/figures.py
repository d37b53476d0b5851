"""Amounts and times as people of a locale write them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from cxguard.core.currency import decimals

_SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥"}
_SYMBOL_FIRST = frozenset({"en"})  # others write it behind the amount
_SEPARATORS = {"en": (",", "."), "de": (".", ","), "fr": ("\u202f", ",")}  # thousands, decimals
_MONTHS = {
    "en": ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"],
    "de": ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"],
    "fr": ["janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"],
}


def format_amount(amount_minor: int, currency: str, *, locale: str) -> str:
    """`€4,999.50`, `4.999,50 €`, `¥500`: minor units by the decimals of ISO 4217, exact.

    A currency that is not in the list is written with two decimals and its code.
    """
    language = locale.partition("-")[0]
    thousands, point = _SEPARATORS.get(language, (" ", "."))
    places = decimals(currency)
    whole, part = divmod(abs(amount_minor), 10**places)
    number = f"{whole:,}".replace(",", thousands) + (f"{point}{part:0{places}}" if places else "")
    sign = "-" if amount_minor < 0 else ""
    symbol = _SYMBOLS.get(currency)
    if symbol and language in _SYMBOL_FIRST:
        return f"{sign}{symbol}{number}"
    return f"{sign}{number}\u00a0{symbol or currency}"


def format_time(at: float, *, now: float, zone: tzinfo, locale: str) -> str:
    """`21:45 UTC` today, `23 November, 09:10 UTC` on another day; the zone is always named."""
    moment, today = datetime.fromtimestamp(at, zone), datetime.fromtimestamp(now, zone)
    clock = f"{moment:%H:%M} {moment.tzname() or 'UTC'}"
    if moment.date() == today.date():
        return clock
    months = _MONTHS.get(locale.partition("-")[0], _MONTHS["en"])
    day = f"{moment.day}{'.' if locale.startswith('de') else ''} {months[moment.month - 1]}"
    return f"{day}, {clock}"


def iso_time(at: float) -> str:
    """RFC 3339 in UTC, whole seconds: `2026-11-22T21:45:00Z`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
