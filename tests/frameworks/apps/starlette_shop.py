"""The shop on Starlette, the guard added as a middleware."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from frameworks.apps.guarding import LIFESPAN_FAILS, ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import Order, Trouble, order_of, sell
from frameworks.apps.till import by_guard, by_shop, work_after
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from cxguard import signed_session
from cxguard.asgi import GuardMiddleware


async def sign_in(request: Request) -> Response:
    request.session["visitor_id"] = request.query_params["name"]
    return PlainTextResponse("welcome")


async def pay(request: Request) -> Response:
    return await _sold(request, by_guard)


async def shop_pay(request: Request) -> Response:
    return await _sold(request, by_shop)


async def _sold(request: Request, take: Any) -> Response:
    order, trouble = order_of(await request.json()), request.headers.get(TROUBLE_HEADER, "")
    status, body = await sell(order, trouble, take)
    if trouble == Trouble.BREAKS_OFF:
        return StreamingResponse(_half_of(body), status, media_type="application/json")
    answer = JSONResponse(body, status, background=_background(order, trouble))
    answer.set_cookie("basket", "empty")
    return answer


async def _half_of(body: dict[str, str]) -> AsyncIterator[bytes]:
    yield json.dumps(body).encode()[:20]
    raise RuntimeError("the template has no such name")


def _background(order: Order, trouble: str) -> BackgroundTask | None:
    return BackgroundTask(work_after, order, trouble) if trouble.startswith("background") else None


async def form(request: Request) -> Response:
    return HTMLResponse('<form method="post"><input name="csrf_token" value="any"></form>')


async def checkout(request: Request) -> Response:
    async with request.form() as fields:
        order = order_of({name: str(value) for name, value in fields.items()})
    _, body = await sell(order, request.headers.get(TROUBLE_HEADER, ""), by_guard)
    return RedirectResponse(f"{ROOT}/thank-you/{body['payment']}", 303)


async def thank_you(request: Request) -> Response:
    return HTMLResponse(f"<h1>Thank you</h1>{request.path_params['payment']}")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    if LIFESPAN_FAILS:
        raise RuntimeError("the catalogue cannot be read")
    yield


app = Starlette(
    routes=[
        Route("/sign-in", sign_in),
        Route("/pay", pay, methods=["POST"]),
        Route("/pay-now", pay, methods=["POST"]),
        Route("/shop-pay", shop_pay, methods=["POST"]),
        Route("/checkout", form, methods=["GET"]),
        Route("/checkout", checkout, methods=["POST"]),
        Route("/thank-you/{payment}", thank_you),
    ],
    lifespan=lifespan,
)
app.add_middleware(SessionMiddleware, secret_key=SECRET)
app.add_middleware(GuardMiddleware, guard=make_guard(rules(signed_session("visitor_id", secret=SECRET))))
