"""The shop on Quart, the guard around its `asgi_app`."""

from __future__ import annotations

from typing import Any

from frameworks.apps.guarding import LIFESPAN_FAILS, ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import order_of, sell
from frameworks.apps.till import by_guard, by_shop, work_after
from quart import Quart, Response, jsonify, redirect, request, session

from cxguard import signed_session
from cxguard.asgi import GuardMiddleware

app = Quart(__name__)
app.secret_key = SECRET


@app.before_serving
async def lifespan() -> None:
    if LIFESPAN_FAILS:
        raise RuntimeError("the catalogue cannot be read")


@app.get("/sign-in")
async def sign_in() -> str:
    session["visitor_id"] = request.args["name"]
    return "welcome"


@app.post("/pay")
@app.post("/pay-now")
async def pay() -> Response:
    return await _sold(by_guard)


@app.post("/shop-pay")
async def shop_pay() -> Response:
    return await _sold(by_shop)


async def _sold(take: Any) -> Response:
    order, trouble = order_of(await request.get_json()), request.headers.get(TROUBLE_HEADER, "")
    status, body = await sell(order, trouble, take)
    answer = jsonify(body)
    answer.status_code = status
    answer.set_cookie("basket", "empty")
    if trouble.startswith("background"):
        app.add_background_task(work_after, order, trouble)
    return answer


@app.get("/checkout")
async def form() -> str:
    return '<form method="post"><input name="csrf_token" value="any"></form>'


@app.post("/checkout")
async def checkout() -> Any:
    order = order_of((await request.form).to_dict())
    _, body = await sell(order, request.headers.get(TROUBLE_HEADER, ""), by_guard)
    return redirect(f"{ROOT}/thank-you/{body['payment']}", 303)


@app.get("/thank-you/<payment>")
async def thank_you(payment: str) -> str:
    return f"<h1>Thank you</h1>{payment}"


visitor = signed_session("visitor_id", secret=SECRET, framework="quart")
app.asgi_app = GuardMiddleware(app.asgi_app, guard=make_guard(rules(visitor)))  # type: ignore[arg-type,method-assign]
