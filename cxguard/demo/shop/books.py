"""The shop's own database: baskets and orders."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import apsw

from cxguard.clock import Clock, SystemClock
from cxguard.demo.shop.catalogue import CURRENCY, SHELF, Product

BUSY_MILLISECONDS = 5_000
LINES_MAX = 20
QUANTITY_MAX = 20
FIRST_NUMBER = 1_001


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one plant."""

    product: Product
    quantity: int


@dataclass(frozen=True, slots=True)
class Basket:
    """What a visitor is about to buy."""

    id: str
    visitor: str
    is_open: bool
    lines: tuple[Line, ...]

    @property
    def amount_minor(self) -> int:
        return sum(line.product.price_minor * line.quantity for line in self.lines)


@dataclass(frozen=True, slots=True)
class Order:
    """What a visitor asks for at the checkout. *source* is the gateway's token for the card."""

    basket_id: str
    amount_minor: int
    currency: str
    source: str
    email: str


@dataclass(frozen=True, slots=True)
class Placed:
    """An order in the books."""

    number: str
    basket_id: str
    amount_minor: int
    currency: str
    payment_id: str


class BadOrder(ValueError):
    """The order cannot be placed as it was asked for; the text is for the shopper. Nothing was charged."""


def read_order(fields: Mapping[str, Any]) -> Order:
    """Read the checkout's fields, from a form or from JSON.

    Raises:
        BadOrder: a field is missing or cannot be what it should be.
    """
    texts = {name: str(fields.get(name, "")).strip() for name in ("basket_id", "currency", "source", "email")}
    if not all(texts.values()) or "@" not in texts["email"]:
        raise BadOrder("Please fill in e-mail and card.")
    amount = str(fields.get("amount_minor", ""))
    if not (amount.isascii() and amount.isdigit()):
        raise BadOrder("The amount is missing. Please open the checkout again.")
    return Order(amount_minor=int(amount[:12]), **texts)


class Books:
    """Belongs to one thread."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._db = apsw.Connection(str(path))
        self._db.set_busy_timeout(BUSY_MILLISECONDS)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(resources.files(__package__).joinpath("books.sql").read_text("utf-8"))

    def close(self) -> None:
        self._db.close()

    def open_basket(self, visitor: str) -> Basket | None:
        """The visitor's basket that was not ordered yet."""
        row = self._db.execute("SELECT id FROM baskets WHERE visitor = ? AND is_open ORDER BY created_at DESC", (visitor,)).fetchone()
        return None if row is None else self.basket(row[0])

    def basket(self, basket_id: str) -> Basket | None:
        row = self._db.execute("SELECT id, visitor, is_open FROM baskets WHERE id = ?", (basket_id,)).fetchone()
        if row is None:
            return None
        lines: list[Any] = self._db.execute(
            "SELECT product, quantity FROM lines WHERE basket_id = ? ORDER BY rowid", (basket_id,)
        ).fetchall()
        return Basket(row[0], row[1], bool(row[2]), tuple(Line(SHELF[product], quantity) for product, quantity in lines))

    def put_in(self, visitor: str, product: str, *, quantity: int) -> Basket:
        """Set how many of *product* are in the visitor's basket; a new basket if there is none open.

        Raises:
            BadOrder: no such plant, or too many.
        """
        if product not in SHELF or not 0 <= quantity <= QUANTITY_MAX:
            raise BadOrder(f"We have up to {QUANTITY_MAX} of each plant on our shelf.")
        basket = self.open_basket(visitor)
        basket_id = basket.id if basket else self._new_basket(visitor)
        if quantity == 0:
            self._db.execute("DELETE FROM lines WHERE basket_id = ? AND product = ?", (basket_id, product))
        else:
            sql = "INSERT INTO lines VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET quantity = excluded.quantity"
            self._db.execute(sql, (basket_id, product, quantity))
        changed = self.basket(basket_id)
        assert changed is not None
        return changed

    def check(self, order: Order) -> Basket:
        """The basket of *order*, if the order is for what is in it, at today's price.

        Raises:
            BadOrder: it is not.
        """
        basket = self.basket(order.basket_id)
        if basket is None or not basket.is_open or not basket.lines:
            raise BadOrder("Your basket is empty.")
        if (order.amount_minor, order.currency) != (basket.amount_minor, CURRENCY):
            raise BadOrder("The price has changed. Please look at your basket again.")
        return basket

    def write_order(self, order: Order, payment_id: str) -> str:
        """Put a paid order into the books and close its basket; the same payment again is the same order."""
        with self._db:
            sql = """INSERT INTO orders (number, basket_id, amount_minor, currency, email, payment_id, placed_at)
                     VALUES ((SELECT coalesce(max(number) + 1, ?) FROM orders), ?, ?, ?, ?, ?, ?)
                     ON CONFLICT (payment_id) DO UPDATE SET payment_id = excluded.payment_id RETURNING number"""
            values = (FIRST_NUMBER, order.basket_id, order.amount_minor, order.currency, order.email, payment_id, self._clock.now())
            number = self._db.execute(sql, values).get
            self._db.execute("UPDATE baskets SET is_open = 0 WHERE id = ?", (order.basket_id,))
        return f"FC-{number}"

    def orders_of(self, visitor: str) -> list[Placed]:
        """The visitor's orders, newest first."""
        sql = """SELECT o.number, o.basket_id, o.amount_minor, o.currency, o.payment_id
                 FROM orders o JOIN baskets b ON b.id = o.basket_id WHERE b.visitor = ? ORDER BY o.number DESC"""
        return [Placed(f"FC-{number}", *rest) for number, *rest in self._db.execute(sql, (visitor,))]

    def _new_basket(self, visitor: str) -> str:
        basket_id = "b_" + secrets.token_urlsafe(12)
        self._db.execute("INSERT INTO baskets (id, visitor, created_at) VALUES (?, ?, ?)", (basket_id, visitor, self._clock.now()))
        return basket_id


def all_orders(path: Path) -> list[Placed]:
    """Every order in a shop's database file, oldest first: for judges, after the shop has ended."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows: list[Any] = db.execute("SELECT number, basket_id, amount_minor, currency, payment_id FROM orders ORDER BY number").fetchall()
    finally:
        db.close()
    return [Placed(f"FC-{number}", *rest) for number, *rest in rows]
