"""The shop on Django's ASGI handler: no lifespan, signed-cookie sessions, CSRF on. `SHOP_VIEWS` says which kind of views."""

from __future__ import annotations

import json
import os
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from frameworks.apps.guarding import ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import order_of, sell, sell_in_thread
from frameworks.apps.till import by_guard, by_guard_in_thread, by_shop, by_shop_in_thread

from cxguard import signed_session
from cxguard.asgi import GuardMiddleware

settings.configure(
    SECRET_KEY=SECRET,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    INSTALLED_APPS=["django.contrib.sessions"],
)
django.setup()


def sign_in(request: HttpRequest) -> HttpResponse:
    request.session["visitor_id"] = request.GET["name"]
    return HttpResponse("welcome")


def _members(request: HttpRequest) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(request.body)
    return members


def _answer(status: int, body: dict[str, str]) -> HttpResponse:
    answer = JsonResponse(body, status=status)
    answer.set_cookie("basket", "empty")
    return answer


@csrf_exempt
def pay(request: HttpRequest) -> HttpResponse:
    return _answer(*sell_in_thread(order_of(_members(request)), request.headers.get(TROUBLE_HEADER, ""), by_guard_in_thread))


@csrf_exempt
def shop_pay(request: HttpRequest) -> HttpResponse:
    return _answer(*sell_in_thread(order_of(_members(request)), request.headers.get(TROUBLE_HEADER, ""), by_shop_in_thread))


def checkout(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return HttpResponse(f'<form method="post"><input name="csrfmiddlewaretoken" value="{get_token(request)}"></form>')
    trouble = request.headers.get(TROUBLE_HEADER, "")
    _, body = sell_in_thread(order_of(request.POST.dict()), trouble, by_guard_in_thread)
    return HttpResponseRedirect(f"{ROOT}/thank-you/{body['payment']}")


@csrf_exempt
async def pay_async(request: HttpRequest) -> HttpResponse:
    return _answer(*await sell(order_of(_members(request)), request.headers.get(TROUBLE_HEADER, ""), by_guard))


@csrf_exempt
async def shop_pay_async(request: HttpRequest) -> HttpResponse:
    return _answer(*await sell(order_of(_members(request)), request.headers.get(TROUBLE_HEADER, ""), by_shop))


async def checkout_async(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return HttpResponse(f'<form method="post"><input name="csrfmiddlewaretoken" value="{get_token(request)}"></form>')
    _, body = await sell(order_of(request.POST.dict()), request.headers.get(TROUBLE_HEADER, ""), by_guard)
    return HttpResponseRedirect(f"{ROOT}/thank-you/{body['payment']}")


def thank_you(request: HttpRequest, payment: str) -> HttpResponse:
    return HttpResponse(f"<h1>Thank you</h1>{payment}")


_ASYNC = os.environ.get("SHOP_VIEWS") == "async"
urlpatterns = [
    path("sign-in", sign_in),
    path("pay", pay_async if _ASYNC else pay),
    path("pay-now", pay_async if _ASYNC else pay),
    path("shop-pay", shop_pay_async if _ASYNC else shop_pay),
    path("checkout", checkout_async if _ASYNC else checkout),
    path("thank-you/<str:payment>", thank_you),
]

visitor = signed_session("visitor_id", secret=SECRET, framework="django")
app = GuardMiddleware(get_asgi_application(), guard=make_guard(rules(visitor)))
