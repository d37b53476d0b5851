"""The shop's pages: server-rendered, complete without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from cxguard.demo.shop.books import BadOrder, Basket, Books, read_order
from cxguard.demo.shop.catalogue import CURRENCY, SHELF, price_text
from cxguard.demo.shop.placing import PaymentFailed, Place
from cxguard.demo.shop.visitors import form_token, is_our_form, visitor_id
from cxguard.errors import PaymentDeclined

_CSP = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_FOLDER = Path(__file__).parent
_STYLE_SECONDS = 300
_CARDS = {
    "tok_ok": "Visa ending in 4242",
    "tok_declined": "Visa ending in 0002 (the bank says no)",
    "tok_insufficient": "Mastercard ending in 9995 (too little money)",
    "tok_expired": "Mastercard ending in 0069 (expired)",
}


def page_routes(books: Books, place: Place, *, secret: str, note: str, terms: str = "") -> list[Route]:
    """The shop for people. *note* is shown in the foot of every page, *terms* under the button that pays."""
    pages = _Pages(books, place, secret=secret, note=note, terms=terms)
    return [
        Route("/", pages.catalogue, methods=["GET"]),
        Route("/basket", pages.basket, methods=["GET"]),
        Route("/basket", pages.put_in, methods=["POST"]),
        Route("/checkout", pages.checkout, methods=["GET"]),
        Route("/checkout/pay", pages.pay, methods=["POST"]),
        Route("/orders", pages.orders, methods=["GET"]),
        Route("/orders/{number}", pages.order, methods=["GET"]),
        Route("/shop.css", pages.style, methods=["GET"]),
    ]


class _Pages:
    def __init__(self, books: Books, place: Place, *, secret: str, note: str, terms: str) -> None:
        self._books = books
        self._place = place
        self._secret = secret
        self._templates = Environment(loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined)
        self._templates.globals.update(price=price_text, shop_note=note, terms=terms)

    async def catalogue(self, request: Request) -> Response:
        return self._page(request, "catalogue.html", products=SHELF.values())

    async def basket(self, request: Request) -> Response:
        return self._page(request, "basket.html")

    async def put_in(self, request: Request) -> Response:
        form = await request.form()
        if not self._is_ours(request, form):
            return self._stale(request)
        quantity = _text(form, "quantity")
        try:
            self._books.put_in(visitor_id(request), _text(form, "product"), quantity=int(quantity) if quantity.isdecimal() else -1)
        except BadOrder as error:
            return self._page(request, "basket.html", status=422, problem=str(error))
        return RedirectResponse("/basket", 303)

    async def checkout(self, request: Request) -> Response:
        if self._basket(request) is None:
            return RedirectResponse("/basket", 303)
        return self._checkout(request)

    async def pay(self, request: Request) -> Response:
        """The one handler that moves money. What it does about that is `place`'s business."""
        form = await request.form()
        if not self._is_ours(request, form):
            return self._stale(request)
        try:
            order = read_order(form)
            if self._books.check(order).visitor != visitor_id(request):
                raise BadOrder("This basket belongs to another visit.")
            number = await self._place(order)
        except BadOrder as error:
            return self._checkout(request, status=422, problem=str(error), email=_text(form, "email"))
        except (PaymentFailed, PaymentDeclined):
            problem = "Your card was declined. No payment has been taken. Please try again or use another card."
            return self._checkout(request, status=402, problem=problem, email=_text(form, "email"))
        return RedirectResponse(f"/orders/{number}", 303)

    async def orders(self, request: Request) -> Response:
        return self._page(request, "orders.html", orders=self._books.orders_of(visitor_id(request)))

    async def order(self, request: Request) -> Response:
        for placed in self._books.orders_of(visitor_id(request)):
            if placed.number == request.path_params["number"]:
                return self._page(request, "order.html", order=placed)
        return self._page(request, "problem.html", status=404, problem="There is no such order of yours.")

    async def style(self, request: Request) -> Response:
        headers = {"Cache-Control": f"public, max-age={_STYLE_SECONDS}"}
        return Response((_FOLDER / "static" / "shop.css").read_bytes(), media_type="text/css", headers=headers)

    def _checkout(self, request: Request, *, status: int = 200, problem: str = "", email: str = "") -> Response:
        if self._basket(request) is None:
            return self._page(request, "basket.html", status=status, problem=problem)
        return self._page(request, "checkout.html", status=status, problem=problem, email=email, cards=_CARDS, currency=CURRENCY)

    def _basket(self, request: Request) -> Basket | None:
        basket = self._books.open_basket(visitor_id(request))
        return basket if basket is not None and basket.lines else None

    def _is_ours(self, request: Request, form: FormData) -> bool:
        return is_our_form(self._secret, visitor_id(request), _text(form, "csrf_token"))

    def _stale(self, request: Request) -> Response:
        return self._page(request, "problem.html", status=403, problem="This form is too old. Please open the page again and send it anew.")

    def _page(self, request: Request, template: str, *, status: int = 200, problem: str = "", **values: Any) -> Response:
        visitor = visitor_id(request)
        html = self._templates.get_template(template).render(
            basket=self._basket(request), problem=problem, csrf_token=form_token(self._secret, visitor), **values
        )
        headers = {"Content-Security-Policy": _CSP, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return Response(html, status, media_type="text/html", headers=headers)


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""
