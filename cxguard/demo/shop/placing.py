"""How an order is placed, as many shops do it. `guarding.py` is what the guard changes."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cxguard.core.outcomes import Charged
from cxguard.demo.shop.books import Books, Order
from cxguard.gateways.base import Charge, Gateway

NAIVE_TIMEOUT_SECONDS = 2.0  # what many checkouts have: shorter than a gateway's bad day

Place: TypeAlias = Callable[[Order], Awaitable[str]]
"""Take the money, write the order, and give its number."""


class PaymentFailed(Exception):
    """What the unguarded shop makes of anything but a charge."""


def charge_of(order: Order) -> Charge:
    return Charge(amount_minor=order.amount_minor, currency=order.currency, source=order.source, order_id=order.basket_id)


def unguarded_place(gateway: Gateway, books: Books) -> Place:
    """A new key for each try, a short time-out, the order after the charge, and one error for all that goes wrong."""

    async def place(order: Order) -> str:
        payment = await gateway.charge(charge_of(order), key=uuid.uuid4().hex, timeout_seconds=NAIVE_TIMEOUT_SECONDS)
        if not isinstance(payment, Charged):
            raise PaymentFailed
        return books.write_order(order, payment.payment_id)

    return place
