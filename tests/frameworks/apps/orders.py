"""What each of these small shops sells, and how it can be told to fail: the same for all frameworks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from cxguard import Charge


class Trouble(StrEnum):
    """What goes wrong in the shop's own code."""

    NONE = ""
    RAISE_BEFORE = "raise before"
    RAISE_AFTER = "raise after"
    ERROR_AFTER = "error after"  # a 500 that says that nothing was charged
    BACKGROUND = "background"  # work after the answer, that ends when it is let go
    BACKGROUND_FAILS = "background fails"
    COMMIT_FAILS = "commit fails"
    BREAKS_OFF = "breaks off"  # raises in the middle of its answer


class CardDeclined(Exception):
    """What the shop's own client of the gateway raises."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a request asks for."""

    cart: str
    amount_minor: int
    currency: str
    card: str

    @property
    def charge(self) -> Charge:
        """What is to be charged for it."""
        return Charge(self.amount_minor, self.currency, source=self.card, order_id=self.cart)


def order_of(members: Mapping[str, Any]) -> Order:
    """The order in a JSON body, a form or the variables of a mutation."""
    return Order(members["cart"], int(members["amount"]), members["currency"], members["card"])


Sold: TypeAlias = tuple[int, dict[str, str]]  # status and body of the answer


async def sell(order: Order, trouble: str, take: Callable[[Order], Awaitable[str]]) -> Sold:
    """Take the money, and say what was bought."""
    _fail_before(trouble)
    try:
        payment = await take(order)
    except CardDeclined:
        return 402, {"error": "card declined"}
    return _answer(order, payment, trouble)


def sell_in_thread(order: Order, trouble: str, take: Callable[[Order], str]) -> Sold:
    """As `sell`, for frameworks that run handlers in threads."""
    _fail_before(trouble)
    try:
        payment = take(order)
    except CardDeclined:
        return 402, {"error": "card declined"}
    return _answer(order, payment, trouble)


def _fail_before(trouble: str) -> None:
    if trouble == Trouble.RAISE_BEFORE:
        raise RuntimeError("no stock module here")


def _answer(order: Order, payment: str, trouble: str) -> Sold:
    if trouble == Trouble.RAISE_AFTER:
        raise RuntimeError("the order cannot be written")
    if trouble == Trouble.ERROR_AFTER:
        return 500, {"error": "something failed, no payment has been taken"}
    return 201, {"cart": order.cart, "payment": payment}
