"""The shop on FastAPI, with a dependency that commits after the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, Body, Depends, FastAPI, Form, Header, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from frameworks.apps.guarding import LIFESPAN_FAILS, ROOT, make_guard, rules
from frameworks.apps.known import SECRET, TROUBLE_HEADER
from frameworks.apps.orders import Trouble, order_of, sell
from frameworks.apps.till import FOLDER, by_guard, by_shop, work_after
from starlette.middleware.sessions import SessionMiddleware

from cxguard import signed_session
from cxguard.asgi import GuardMiddleware


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    if LIFESPAN_FAILS:
        raise RuntimeError("the catalogue cannot be read")
    yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=SECRET)
app.add_middleware(GuardMiddleware, guard=make_guard(rules(signed_session("visitor_id", secret=SECRET))))

Members = Annotated[dict[str, Any], Body()]
InTrouble = Annotated[str, Header(alias=TROUBLE_HEADER)]


async def commit(members: Members, trouble: InTrouble = "") -> AsyncIterator[None]:
    """A database session as most FastAPI shops have it: FastAPI ends it after the answer was sent."""
    yield
    if trouble == Trouble.COMMIT_FAILS:
        raise RuntimeError("could not serialize access")
    (FOLDER / f"{members['cart']}.committed").touch()


Committed = Annotated[None, Depends(commit)]


@app.get("/sign-in")
async def sign_in(request: Request, name: str) -> str:
    request.session["visitor_id"] = name
    return "welcome"


@app.post("/pay")
@app.post("/pay-now")
async def pay(
    members: Members, response: Response, later: BackgroundTasks, committed: Committed, trouble: InTrouble = ""
) -> dict[str, str]:
    return await _sold(members, trouble, response, later, by_guard)


@app.post("/shop-pay")
async def shop_pay(
    members: Members, response: Response, later: BackgroundTasks, committed: Committed, trouble: InTrouble = ""
) -> dict[str, str]:
    return await _sold(members, trouble, response, later, by_shop)


async def _sold(members: dict[str, Any], trouble: str, response: Response, later: BackgroundTasks, take: Any) -> dict[str, str]:
    order = order_of(members)
    response.status_code, body = await sell(order, trouble, take)
    response.set_cookie("basket", "empty")
    if trouble.startswith("background"):
        later.add_task(work_after, order, trouble)
    return body


@app.get("/checkout")
async def form() -> HTMLResponse:
    return HTMLResponse('<form method="post"><input name="csrf_token" value="any"></form>')


@app.post("/checkout")
async def checkout(
    cart: Annotated[str, Form()],
    amount: Annotated[int, Form()],
    currency: Annotated[str, Form()],
    card: Annotated[str, Form()],
    trouble: InTrouble = "",
) -> RedirectResponse:
    order = order_of({"cart": cart, "amount": amount, "currency": currency, "card": card})
    _, body = await sell(order, trouble, by_guard)
    return RedirectResponse(f"{ROOT}/thank-you/{body['payment']}", 303)


@app.get("/thank-you/{payment}")
async def thank_you(payment: str) -> HTMLResponse:
    return HTMLResponse(f"<h1>Thank you</h1>{payment}")
