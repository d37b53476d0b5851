"""What is to be paid, read from a request: minor units, or major ones checked against the currency's decimals.

Amounts are text or whole numbers all the way: a float never decides what somebody pays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from cxguard.core.currency import AMOUNT_MINOR_MAX, DECIMALS
from cxguard.errors import BadAmount, ConfigurationError
from cxguard.rules.sources import ASKING, AnySource, Arrival, Chain, InThread, Source, read_now, resolve_source

_WHOLE = re.compile(r"[0-9]{1,16}")
_MAJOR = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,8}))?")


@dataclass(frozen=True, slots=True)
class Major:
    """An amount source whose values are in major units: `49.99`."""

    source: AnySource


AmountSource: TypeAlias = AnySource | Major


def major(source: AnySource) -> Major:
    """Read *source* in major units (`49.99`), checked against the currency's decimals.

    Raises:
        ConfigurationError: it does not say where to read it.
    """
    if not isinstance(source, Source | Chain) and not callable(source):
        raise ConfigurationError(f'major({source!r}) does not say where to read it; write major(json_field("{source}"))')
    return Major(source)


async def resolve_amount(
    amount: AmountSource | None, currency: AnySource | str | None, arrival: Arrival, *, in_thread: InThread = ASKING
) -> tuple[int | None, str | None]:
    """The accepted amount in minor units and its currency; (None, None) for a rule that names neither.

    Raises:
        BadAmount: absent, or cannot be what a shopper pays.
    """
    if amount is None or currency is None:
        return None, None
    code = check_currency(currency if isinstance(currency, str) else await _value(currency, arrival, "currency", in_thread))
    if isinstance(amount, Major):
        return minor_of_major(await _value(amount.source, arrival, "amount", in_thread), currency=code), code
    return minor_of(await _value(amount, arrival, "amount", in_thread)), code


async def _value(source: AnySource, arrival: Arrival, what: str, in_thread: InThread) -> str:
    if isinstance(source, Source):
        value = read_now(source, arrival)
    else:
        found = await resolve_source(source, arrival, in_thread=in_thread)
        value = found.value if found else None
    if value is None:
        raise BadAmount(f"the request does not say the {what}: send it")
    return value.strip()


def check_currency(code: str) -> str:
    """The currency in upper case, if ISO 4217 has it.

    Raises:
        BadAmount: it has not.
    """
    upper = code.upper()
    if upper not in DECIMALS:
        raise BadAmount(f"{code[:8]!r} is no currency: send a code of ISO 4217, for instance EUR")
    return upper


def minor_of(text: str) -> int:
    """Whole minor units: `4999`.

    Raises:
        BadAmount: negative, with decimals, not a number, or over `AMOUNT_MINOR_MAX`.
    """
    if not _WHOLE.fullmatch(text):
        raise BadAmount(f"the amount {text[:24]!r} is not a whole number of minor units: send cents, for instance 4999")
    return _bounded(int(text))


def minor_of_major(text: str, *, currency: str) -> int:
    """Major units (`49.99`) in minor ones. Spare decimals must be zeros, and at most two: `1.000` may be a thousand.

    Raises:
        BadAmount: not a plain number, negative, or with more decimals than the currency has.
    """
    places = DECIMALS[currency]
    number = _MAJOR.fullmatch(text)
    if number is None:
        raise BadAmount(f"the amount {text[:24]!r} is not a plain number: send it like 49.99, without sign, comma or exponent")
    whole, decimals = number[1], number[2] or ""
    if len(decimals) > max(places, 2) or decimals[places:].strip("0"):
        raise BadAmount(f"the amount {text[:24]!r} has more than the {places} decimals of {currency}: send the exact amount")
    return _bounded(int(whole + decimals[:places].ljust(places, "0")))


def _bounded(amount_minor: int) -> int:
    if amount_minor > AMOUNT_MINOR_MAX:
        raise BadAmount(f"the amount is over {AMOUNT_MINOR_MAX} minor units: send the real one")
    return amount_minor
