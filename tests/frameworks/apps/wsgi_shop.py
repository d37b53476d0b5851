"""A WSGI shop (Flask, which comes with Quart) through a2wsgi."""

from __future__ import annotations

from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, jsonify, redirect, request, session
from frameworks.apps.guarding import ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import order_of, sell_in_thread
from frameworks.apps.till import by_guard_in_thread, by_shop_in_thread, work_after_in_thread

from cxguard import signed_session
from cxguard.asgi import GuardMiddleware

shop = Flask(__name__)
shop.secret_key = SECRET


@shop.get("/sign-in")
def sign_in() -> str:
    session["visitor_id"] = request.args["name"]
    return "welcome"


@shop.post("/pay")
@shop.post("/pay-now")
def pay() -> Response:
    return _sold(by_guard_in_thread)


@shop.post("/shop-pay")
def shop_pay() -> Response:
    return _sold(by_shop_in_thread)


def _sold(take: Any) -> Response:
    order, trouble = order_of(request.get_json()), request.headers.get(TROUBLE_HEADER, "")
    status, body = sell_in_thread(order, trouble, take)
    answer = jsonify(body)
    answer.status_code = status
    answer.set_cookie("basket", "empty")
    if trouble.startswith("background"):
        answer.call_on_close(lambda: work_after_in_thread(order, trouble))
    return answer


@shop.get("/checkout")
def form() -> str:
    return '<form method="post"><input name="csrf_token" value="any"></form>'


@shop.post("/checkout")
def checkout() -> Any:
    order = order_of(request.form.to_dict())
    _, body = sell_in_thread(order, request.headers.get(TROUBLE_HEADER, ""), by_guard_in_thread)
    return redirect(f"{ROOT}/thank-you/{body['payment']}", 303)


@shop.get("/thank-you/<payment>")
def thank_you(payment: str) -> str:
    return f"<h1>Thank you</h1>{payment}"


visitor = signed_session("visitor_id", secret=SECRET, framework="quart")
app = GuardMiddleware(WSGIMiddleware(shop, workers=30), guard=make_guard(rules(visitor)))  # type: ignore[arg-type]
