"""The shop on Litestar. Its session cookie is encrypted, so the owner is found by a function of the shop's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from frameworks.apps.guarding import LIFESPAN_FAILS, ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import order_of, sell
from frameworks.apps.till import by_guard, by_shop, work_after
from itsdangerous import BadSignature, Signer
from litestar import Litestar, Request, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.enums import MediaType
from litestar.response import Redirect

from cxguard.asgi import GuardMiddleware
from cxguard.rules import Arrival

_SIGNER = Signer(SECRET)


def visitor(arrival: Arrival) -> str | None:
    """The visitor whom a cookie of ours names; a forged one names nobody."""
    try:
        return _SIGNER.unsign(arrival.snapshot.cookie("visitor") or "").decode()
    except BadSignature:
        return None


@get("/sign-in")
async def sign_in(name: str) -> Response[str]:
    answer = Response("welcome", media_type=MediaType.TEXT)
    answer.set_cookie("visitor", _SIGNER.sign(name).decode())
    return answer


@post(["/pay", "/pay-now"])
async def pay(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    return await _sold(request, by_guard)


@post("/shop-pay")
async def shop_pay(request: Request[Any, Any, Any]) -> Response[dict[str, str]]:
    return await _sold(request, by_shop)


async def _sold(request: Request[Any, Any, Any], take: Any) -> Response[dict[str, str]]:
    order, trouble = order_of(await request.json()), request.headers.get(TROUBLE_HEADER, "")
    status, body = await sell(order, trouble, take)
    background = BackgroundTask(work_after, order, trouble) if trouble.startswith("background") else None
    answer = Response(body, status_code=status, background=background)
    answer.set_cookie("basket", "empty")
    return answer


@get("/checkout", media_type=MediaType.HTML)
async def form() -> str:
    return '<form method="post"><input name="csrf_token" value="any"></form>'


@post("/checkout")
async def checkout(request: Request[Any, Any, Any]) -> Redirect:
    order = order_of(dict(await request.form()))
    _, body = await sell(order, request.headers.get(TROUBLE_HEADER, ""), by_guard)
    return Redirect(f"{ROOT}/thank-you/{body['payment']}", status_code=303)


@get("/thank-you/{payment:str}", media_type=MediaType.HTML)
async def thank_you(payment: str) -> str:
    return f"<h1>Thank you</h1>{payment}"


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    if LIFESPAN_FAILS:
        raise RuntimeError("the catalogue cannot be read")
    yield


shop = Litestar([sign_in, pay, shop_pay, form, checkout, thank_you], lifespan=[lifespan], openapi_config=None)
app = GuardMiddleware(shop, guard=make_guard(rules(visitor)))
