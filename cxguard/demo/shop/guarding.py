"""The guard of Fern & Co, and placing an order with it: all that the guarded shop has more than the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from cxguard import (
    Funnel,
    Gateway,
    Guard,
    OperationHandle,
    Reading,
    Rule,
    Shop,
    current_operation,
    form_field,
    has_status,
    header,
    json_field,
    redirects_to,
    signed_session,
)
from cxguard.core.snapshot import Snapshot
from cxguard.demo.shop.books import Books, Order, read_order
from cxguard.demo.shop.placing import Place, charge_of

TERMS = "2026-11"  # the version of this sentence, kept with each order that waits
TERMS_TEXT = "If payments do not work just now, we keep your order and charge you once, within a day. Until then you can cancel it."


def make_guard(gateway: Gateway, books: Books, *, store: str, session_secret: str) -> Guard:
    """What stands around the shop's checkout. *store* is a URL, for instance `sqlite:///guard.db`."""
    visitor, later = signed_session("visitor_id", secret=session_secret), place_later(books)
    return Guard(
        store,
        rules=[
            Rule(
                "POST /checkout/pay",
                owner=visitor,
                key=form_field("basket_id"),
                purchase=(form_field("basket_id"),),
                amount_minor=form_field("amount_minor"),
                currency=form_field("currency"),
                reads={Reading.SUCCEEDED: redirects_to("/orders/FC-*"), Reading.DECLINED: has_status(402)},
                later=later,
                terms=TERMS,
                ignore_fields=("csrf_token",),
                contact=form_field("email"),
            ),
            Rule(
                "POST /api/checkout",
                owner=visitor,
                key=header("Idempotency-Key"),
                purchase=(json_field("basket_id"),),
                amount_minor=json_field("amount_minor"),
                currency=json_field("currency"),
                later=later,
                terms=TERMS,
                contact=json_field("email"),
            ),
        ],
        shop=Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example"),
        gateways=[gateway],
        visitor=visitor,
        funnel=Funnel(cart="GET /basket", checkout="GET /checkout", pay=("POST /checkout/pay", "POST /api/checkout"), done="GET /orders/*"),
    )


def beside(database: Path) -> str:
    """The guard's own store, next to the shop's database."""
    return f"sqlite:///{database.with_name('guard.db')}"


def guarded_place(books: Books) -> Place:
    """The guard charges once, however often this is asked for; the order is a step whose result is kept."""

    async def place(order: Order) -> str:
        return await place_with(current_operation(), order, books)

    return place


def place_later(books: Books) -> Callable[[OperationHandle], Awaitable[str]]:
    """For a rule's `later=`: place the order that was kept through an outage."""

    async def place(op: OperationHandle) -> str:
        assert op.request is not None
        return await place_with(op, kept_order(op.request), books)

    return place


async def place_with(op: OperationHandle, order: Order, books: Books) -> str:
    payment = await op.charge(charge_of(order))
    return await op.step("write order", books.write_order, order, payment.payment_id, repeatable=True)


def kept_order(request: Snapshot) -> Order:
    """The order in a kept request: the app's JSON, or the form of our checkout page."""
    return read_order(request.json() if request.is_json else dict(request.form().fields))
