"""A Django checkout with a plain form, in one file: sessions in signed cookies, CSRF on, a synchronous view.

python -m cxguard.demo.gateway --port 8801 --ledger gateway.db
uvicorn examples.django_form.app:application
cxguard worker examples.django_form.app:application      (Django has no lifespan: in production, run the worker)
"""

from __future__ import annotations

import os
import secrets

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.html import format_html

from cxguard import Charge, Guard, OperationHandle, Reading, Rule, Shop, current_operation, form_field, redirects_to, signed_session
from cxguard.asgi import GuardMiddleware
from cxguard.errors import PaymentDeclined
from cxguard.gateways.http import HttpGateway

SECRET_KEY = os.environ.get("SHOP_SESSION_SECRET", "an example only: a shop's own comes from its environment")
PRICE_MINOR, CURRENCY = 4999, "EUR"
TERMS = "2026-11"

settings.configure(
    SECRET_KEY=SECRET_KEY,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
)
django.setup()

PAGE = """<!doctype html><html lang="en"><title>Checkout - Fern &amp; Co</title><h1>Checkout</h1><p role="alert">{}</p>
<form method="post" action="/checkout/pay">
<input type="hidden" name="csrfmiddlewaretoken" value="{}"><input type="hidden" name="basket_id" value="{}">
<input type="hidden" name="amount_minor" value="{}"><label>Card <select name="source"><option value="tok_ok">Visa 4242</option>
<option value="tok_declined">Visa 0002 (the bank says no)</option></select></label> <button>Pay</button></form></html>"""


def checkout(request: HttpRequest, problem: str = "", status: int = 200) -> HttpResponse:
    request.session.setdefault("visitor_id", secrets.token_urlsafe(16))
    basket_id = request.session.setdefault("basket_id", "b_" + secrets.token_urlsafe(12))
    return HttpResponse(format_html(PAGE, problem, get_token(request), basket_id, PRICE_MINOR), status=status)


def pay(request: HttpRequest) -> HttpResponse:
    """A synchronous view: Django runs it in a thread, so it charges by `op.sync`."""
    op = current_operation()
    charge = Charge(PRICE_MINOR, CURRENCY, source=request.POST["source"], order_id=request.POST["basket_id"])
    try:
        op.sync.charge(charge)
    except PaymentDeclined:
        return checkout(request, "Your bank did not approve it. You were not charged; try another card.", status=402)
    return HttpResponseRedirect(f"/thank-you/{op.reference}")


def thank_you(request: HttpRequest, reference: str) -> HttpResponse:
    return HttpResponse(format_html("<!doctype html><html lang='en'><title>Paid</title><h1>Thank you, it is paid</h1><p>{}</p>", reference))


async def place_later(op: OperationHandle) -> dict[str, str]:
    """For `later=`: place an order that was kept through an outage, without its shopper."""
    assert op.request is not None
    form = op.request.form()
    payment = await op.charge(Charge(PRICE_MINOR, CURRENCY, source=form.field("source") or "", order_id=form.field("basket_id") or ""))
    return {"payment": payment.payment_id}


urlpatterns = [path("", checkout), path("checkout/pay", pay), path("thank-you/<str:reference>", thank_you)]

guard = Guard(
    os.environ.get("SHOP_STORE", "sqlite:///django.db"),
    rules=[
        Rule(
            "POST /checkout/pay",
            owner=signed_session("visitor_id", secret=SECRET_KEY, framework="django"),
            key=form_field("basket_id"),
            amount_minor=form_field("amount_minor"),
            currency=CURRENCY,
            ignore_fields=("csrfmiddlewaretoken",),
            reads={Reading.SUCCEEDED: redirects_to("/thank-you/*")},
            later=place_later,
            terms=TERMS,
        )
    ],
    shop=Shop("Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example"),
    gateways=[HttpGateway("http:example:test", os.environ.get("SHOP_GATEWAY", "http://127.0.0.1:8801"))],
)
application = GuardMiddleware(get_asgi_application(), guard=guard)
