"""The shop's JSON API, for apps and single-page shops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard.demo.shop.books import LINES_MAX, BadOrder, Basket, Books, read_order
from cxguard.demo.shop.catalogue import CURRENCY, SHELF
from cxguard.demo.shop.placing import PaymentFailed, Place
from cxguard.demo.shop.visitors import visitor_id
from cxguard.errors import PaymentDeclined


def api_routes(books: Books, place: Place) -> list[Route]:
    """The shop for programs. Only `application/json` is read, so that no form of another site can send it."""
    api = _Api(books, place)
    return [
        Route("/api/products", api.products, methods=["GET"]),
        Route("/api/basket", api.basket, methods=["PUT"]),
        Route("/api/checkout", api.pay, methods=["POST"]),
        Route("/api/orders", api.orders, methods=["GET"]),
    ]


class _Api:
    def __init__(self, books: Books, place: Place) -> None:
        self._books = books
        self._place = place

    async def products(self, request: Request) -> Response:
        visitor_id(request)
        return JSONResponse([asdict(product) for product in SHELF.values()])

    async def basket(self, request: Request) -> Response:
        """Set what is in the visitor's basket: `{"items": [{"product": "pilea", "quantity": 2}]}`."""
        try:
            items = _items(await _members(request))
            changed = [self._books.put_in(visitor_id(request), product, quantity=quantity) for product, quantity in items]
        except BadOrder as error:
            return _problem(422, "invalid", str(error))
        return JSONResponse(_shown(changed[-1]))

    async def pay(self, request: Request) -> Response:
        """The one handler that moves money. What it does about that is `place`'s business."""
        try:
            order = read_order(await _members(request))
            if self._books.check(order).visitor != visitor_id(request):
                raise BadOrder("This basket belongs to another visit.")
            number = await self._place(order)
        except BadOrder as error:
            return _problem(422, "invalid", str(error))
        except (PaymentFailed, PaymentDeclined):
            return _problem(402, "declined", "Your card was declined. No payment has been taken. Please try again or use another card.")
        return JSONResponse({"status": "paid", "order": number, "amount_minor": order.amount_minor, "currency": order.currency}, 201)

    async def orders(self, request: Request) -> Response:
        return JSONResponse([asdict(placed) for placed in self._books.orders_of(visitor_id(request))])


async def _members(request: Request) -> Mapping[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BadOrder("Send application/json.")
    try:
        members = await request.json()
    except ValueError:
        raise BadOrder("The body is not JSON.") from None
    if not isinstance(members, dict):
        raise BadOrder("Send a JSON object.")
    return members


def _items(members: Mapping[str, Any]) -> list[tuple[str, int]]:
    items = members.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= LINES_MAX or not all(isinstance(item, dict) for item in items):
        raise BadOrder(f"Send 1 to {LINES_MAX} items.")
    pairs = [(item.get("product"), item.get("quantity", 1)) for item in items]
    if not all(isinstance(product, str) and type(quantity) is int for product, quantity in pairs):
        raise BadOrder("Send product and quantity for each item.")
    return pairs


def _shown(basket: Basket) -> dict[str, Any]:
    items = [{"product": line.product.id, "quantity": line.quantity} for line in basket.lines]
    return {"basket_id": basket.id, "items": items, "amount_minor": basket.amount_minor, "currency": CURRENCY}


def _problem(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"status": kind, "message": message}, status)
