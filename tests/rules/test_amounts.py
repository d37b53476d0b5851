"""Amounts: minor units, and major ones checked against the currency."""

from __future__ import annotations

import pytest

from cxguard.core.currency import DECIMALS
from cxguard.core.snapshot import Snapshot
from cxguard.errors import BadAmount
from cxguard.rules import Arrival, json_field, major
from cxguard.rules.amounts import AMOUNT_MINOR_MAX, check_currency, minor_of, minor_of_major, resolve_amount


@pytest.mark.parametrize(("text", "minor"), [("4999", 4999), ("0", 0), ("007", 7), (str(AMOUNT_MINOR_MAX), AMOUNT_MINOR_MAX)])
def test_minor_units(text: str, minor: int) -> None:
    """Whole minor units are taken as they are; a free order costs 0."""
    assert minor_of(text) == minor


@pytest.mark.parametrize("text", ["", "-1", "+1", "49.99", "49,99", "1e3", "NaN", "Infinity", "٤٩", " 1", "1 000", "0x10", "1_000"])
def test_refused_minor_units(text: str) -> None:
    """Anything but digits is no amount of minor units."""
    with pytest.raises(BadAmount, match="send cents, for instance 4999"):
        minor_of(text)


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("49.99", "EUR", 4999),
        ("49.9", "EUR", 4990),
        ("49", "EUR", 4900),
        ("0.01", "EUR", 1),
        ("0", "EUR", 0),
        ("4999", "JPY", 4999),
        ("4999.0", "JPY", 4999),
        ("4999.00", "JPY", 4999),
        ("1.234", "KWD", 1234),
        ("1.2", "KWD", 1200),
        ("1.2345", "CLF", 12345),
    ],
)
def test_major_units(text: str, currency: str, minor: int) -> None:
    """Major units become exact minor ones by the currency's own decimals."""
    assert minor_of_major(text, currency=currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("49.999", "EUR"),
        ("1.000", "EUR"),
        ("0.5", "JPY"),
        ("1.000", "JPY"),
        ("1.2345", "KWD"),
        ("-1", "EUR"),
        ("+1", "EUR"),
        ("1,00", "EUR"),
        ("1e2", "EUR"),
        ("1E+2", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        (".5", "EUR"),
        ("5.", "EUR"),
        ("", "EUR"),
        ("٤٩", "EUR"),
        ("9" * 16, "EUR"),
    ],
)
def test_refused_major_units(text: str, currency: str) -> None:
    """Signs, exponents, commas, not-a-numbers and too many decimals are refused: nobody's amount is rounded."""
    with pytest.raises(BadAmount):
        minor_of_major(text, currency=currency)


@pytest.mark.parametrize("check", [lambda: minor_of("9" * 16), lambda: minor_of_major("9" * 15, currency="EUR")])
def test_amounts_have_an_end(check: object) -> None:
    """More than any basket is refused before it reaches a store."""
    assert callable(check)
    with pytest.raises(BadAmount, match="is over 999999999999999 minor units"):
        check()


@pytest.mark.parametrize("currency", sorted(DECIMALS))
def test_every_currency_goes_both_ways(currency: str) -> None:
    """In every currency, the smallest unit is 1, and one decimal more is refused."""
    places = DECIMALS[currency]
    smallest = f"0.{'1'.rjust(places, '0')}" if places else "1"
    assert minor_of_major(smallest, currency=currency) == 1
    with pytest.raises(BadAmount):
        minor_of_major(f"0.{'1'.rjust(places + 1, '0')}", currency=currency)


def test_currency_in_any_case() -> None:
    """A currency's code is understood in small letters, and kept in capitals."""
    assert check_currency("eur") == "EUR"


@pytest.mark.parametrize("code", ["", "EURO", "XTS", "€", "E R"])
def test_refused_currencies(code: str) -> None:
    """What ISO 4217 does not have is no currency."""
    with pytest.raises(BadAmount, match="send a code of ISO 4217, for instance EUR"):
        check_currency(code)


def arrival(body: bytes) -> Arrival:
    return Arrival(Snapshot("POST", "/pay", "", (("content-type", "application/json"),), body))


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"amount": 49.99, "currency": "eur"}', (4999, "EUR")), (b'{"amount": "49.99", "currency": "EUR"}', (4999, "EUR"))],
)
@pytest.mark.asyncio
async def test_major_amount_of_a_request(body: bytes, expected: tuple[int, str]) -> None:
    """A number and the same number as text are the same amount, without a float in between."""
    assert await resolve_amount(major(json_field("amount")), json_field("currency"), arrival(body)) == expected


@pytest.mark.asyncio
async def test_amount_in_a_plain_currency() -> None:
    """A shop with one currency writes its code."""
    assert await resolve_amount(json_field("amount"), "EUR", arrival(b'{"amount": 4999}')) == (4999, "EUR")


@pytest.mark.asyncio
async def test_rule_without_an_amount() -> None:
    """A rule that names no amount has none."""
    assert await resolve_amount(None, None, arrival(b"{}")) == (None, None)


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"{}", "say the currency"), (b'{"currency": "EUR"}', "say the amount"), (b'{"amount": 1.5, "currency": "EUR"}', "minor units")],
)
@pytest.mark.asyncio
async def test_refused_amounts_of_a_request(body: bytes, says: str) -> None:
    """An amount that a rule names and the request lacks, or has in other units, is refused."""
    with pytest.raises(BadAmount, match=says):
        await resolve_amount(json_field("amount"), json_field("currency"), arrival(body))
