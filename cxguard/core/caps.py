"""How much a merchant is ready to keep for later: over a cap, the shopper is told "not kept, not charged" at once.

Each kept order is a promise to charge later, and a late charge can be declined: the caps bound what that can cost.

    order      one order's amount
    unpaid     the sum of all that waits, in one currency
    orders     how many wait in all
    owner      how many wait for one shopper
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from cxguard.core.currency import DECIMALS
from cxguard.errors import ConfigurationError


class Cap(StrEnum):
    """Which cap was reached: the reason in events and logs."""

    ORDER = "cap_order"
    UNPAID = "cap_unpaid"
    ORDERS = "cap_orders"
    OWNER = "cap_owner"


OWNER_ORDERS_MOST = 100  # counted by one look-up; a shop whose every order has the same owner wants `orders_max`

MinorCap: TypeAlias = int | Mapping[str, int]
_EXAMPLE = 'Caps(order_minor={"EUR": 50_000, "JPY": 80_000}, orders_max=5_000)'


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that is kept for later. Amounts in minor units: one figure for every currency, or a mapping by currency.

    A currency that a mapping does not name is not kept. The caps on money see only orders whose rule names the amount.

    Attributes:
        order_minor: one order. A late decline of more would hurt, and whoever pays so much would rather pay by another way now.
        unpaid_minor: all that waits, by currency: what an outage may leave unpaid at worst.
        orders_max: how many wait in all. At ten a second the last of them is charged eight minutes after the outage.
        owner_orders_max: how many wait for one shopper. More is despair, or somebody who tries cards.

    Raises:
        ConfigurationError: a cap that is no whole number above zero, or a currency that is none.
    """

    order_minor: MinorCap = 50_000
    unpaid_minor: MinorCap = 10_000_000
    orders_max: int = 5_000
    owner_orders_max: int = 3

    def __post_init__(self) -> None:
        for name in ("order_minor", "unpaid_minor", "orders_max", "owner_orders_max"):
            value = getattr(self, name)
            by_currency = isinstance(value, Mapping) and name.endswith("_minor")
            for currency, most in value.items() if by_currency else (("", value),):
                _check(name, most, currency=currency)


def _check(name: str, most: object, *, currency: str) -> None:
    if type(most) is not int or most < 1:
        raise ConfigurationError(f"{name}={most!r} is no cap: write whole numbers above zero, like {_EXAMPLE}")
    if name == "owner_orders_max" and most > OWNER_ORDERS_MOST:
        raise ConfigurationError(f"{name}={most} is over {OWNER_ORDERS_MOST}: no shopper waits for so many; write {_EXAMPLE}")
    if currency and currency not in DECIMALS:
        raise ConfigurationError(f"{name} names {currency!r}, which is no code of ISO 4217, in capitals: write {_EXAMPLE}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits already, beside the order in question.

    Attributes:
        unpaid_minor: by currency.
        orders, owner_orders: in all, and of the same owner.
    """

    unpaid_minor: Mapping[str, int] = field(default_factory=dict)
    orders: int = 0
    owner_orders: int = 0


def cap_reached(caps: Caps, waiting: Waiting, *, amount_minor: int | None, currency: str | None) -> Cap | None:
    """The first cap that one more order would go over; None: it may be kept.

    Args:
        amount_minor, currency: None where the rule does not name them; then only the counts are looked at.
    """
    if amount_minor is not None and currency is not None:
        if amount_minor > _of(caps.order_minor, currency):
            return Cap.ORDER
        if waiting.unpaid_minor.get(currency, 0) + amount_minor > _of(caps.unpaid_minor, currency):
            return Cap.UNPAID
    if waiting.orders >= caps.orders_max:
        return Cap.ORDERS
    return Cap.OWNER if waiting.owner_orders >= caps.owner_orders_max else None


def _of(cap: MinorCap, currency: str) -> int:
    return cap if isinstance(cap, int) else cap.get(currency, 0)
