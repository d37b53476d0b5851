"""Caps on what is kept for later: every one, at its edge."""

from __future__ import annotations

from typing import Any

import pytest

from cxguard.core.caps import Cap, Caps, Waiting, cap_reached
from cxguard.errors import ConfigurationError

CAPS = Caps(order_minor=500, unpaid_minor={"EUR": 2_000, "JPY": 300}, orders_max=10, owner_orders_max=2)


@pytest.mark.parametrize(
    ("waiting", "amount_minor", "currency", "reached"),
    [
        (Waiting(), 500, "EUR", None),
        (Waiting(), 501, "EUR", Cap.ORDER),
        (Waiting({"EUR": 1_500}), 500, "EUR", None),
        (Waiting({"EUR": 1_501}), 500, "EUR", Cap.UNPAID),
        (Waiting({"EUR": 1_501}), 300, "JPY", None),
        (Waiting({"JPY": 1}), 300, "JPY", Cap.UNPAID),
        (Waiting(), 1, "USD", Cap.UNPAID),
        (Waiting(orders=9), 1, "EUR", None),
        (Waiting(orders=10), 1, "EUR", Cap.ORDERS),
        (Waiting(owner_orders=1), 1, "EUR", None),
        (Waiting(owner_orders=2), 1, "EUR", Cap.OWNER),
        (Waiting({"EUR": 9_999}, orders=9, owner_orders=1), None, None, None),
        (Waiting(), 501, None, None),
        (Waiting(orders=10), None, None, Cap.ORDERS),
        (Waiting(owner_orders=2), None, None, Cap.OWNER),
        (Waiting({"EUR": 9_999}, orders=99, owner_orders=99), 501, "EUR", Cap.ORDER),
    ],
)
def test_the_first_cap_that_is_gone_over_is_named(waiting: Waiting, amount_minor: int | None, currency: str | None, reached: Any) -> None:
    """Up to the cap is within it; a currency that is not named has none; without an amount only counts are looked at."""
    assert cap_reached(CAPS, waiting, amount_minor=amount_minor, currency=currency) is reached


def test_the_least_and_the_most_that_can_be_written_are_caps() -> None:
    """One minor unit, one order; and a hundred orders of one shopper."""
    Caps(order_minor=1, unpaid_minor={"EUR": 1}, orders_max=1, owner_orders_max=1)
    assert Caps(owner_orders_max=100).owner_orders_max == 100


@pytest.mark.parametrize(
    ("caps", "says"),
    [
        ({"order_minor": 0}, "order_minor=0 is no cap"),
        ({"order_minor": True}, "order_minor=True is no cap"),
        ({"unpaid_minor": {"EUR": 1.5}}, "unpaid_minor=1.5 is no cap"),
        ({"unpaid_minor": {"eur": 5}}, "unpaid_minor names 'eur'"),
        ({"orders_max": {"EUR": 5}}, "orders_max={'EUR': 5} is no cap"),
        ({"owner_orders_max": 101}, "owner_orders_max=101 is over 100"),
    ],
)
def test_a_cap_that_is_none_is_refused_with_what_to_write(caps: dict[str, Any], says: str) -> None:
    """At the start, not in the first outage."""
    with pytest.raises(ConfigurationError, match=says) as refused:
        Caps(**caps)
    assert "Caps(" in str(refused.value)
