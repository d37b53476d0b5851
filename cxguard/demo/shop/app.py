"""The shop, put together: once as many shops are, once with the guard around it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import BaseRoute, Mount

from cxguard.demo.shop.api import api_routes
from cxguard.demo.shop.books import Books
from cxguard.demo.shop.pages import page_routes
from cxguard.demo.shop.placing import Place, unguarded_place
from cxguard.gateways.base import Gateway
from cxguard.gateways.http import HttpGateway
from cxguard.secret_file import read_or_make

if TYPE_CHECKING:
    from cxguard.guard import Guard

DESK_PATH = "/desk"


def make_shop(
    gateway: str | Gateway, database: Path, *, guarded: bool, guard_store: str | None = None, staff: Mapping[str, str] | None = None
) -> Starlette:
    """Fern & Co as an ASGI app.

    Args:
        gateway: the address of the payment gateway, or an adapter.
        database: SQLite file of the shop's own orders.
        guard_store: the guard's store; default: a SQLite file beside *database*.
        staff: who may sign in at the desk of the guarded shop: name -> what `password_hash` made of the password.
    """
    charging = HttpGateway("http:fern-co:demo", gateway) if isinstance(gateway, str) else gateway
    books = Books(database)
    life, secret = _life(charging, books), _session_secret(database)
    if not guarded:
        note = "This shop has no guard."
        return _app(books, unguarded_place(charging, books), secret=secret, note=note, middleware=[], life=life)

    from cxguard.asgi.middleware import GuardMiddleware
    from cxguard.demo.shop.guarding import TERMS_TEXT, beside, guarded_place, make_guard

    guard = make_guard(charging, books, store=guard_store or beside(database), session_secret=secret)
    middleware = [Middleware(GuardMiddleware, guard=guard)]
    desk = [_desk(guard, staff)] if staff else []
    note = "This shop is guarded."
    return _app(books, guarded_place(books), secret=secret, note=note, terms=TERMS_TEXT, middleware=middleware, life=life, more=desk)


def _desk(guard: Guard, staff: Mapping[str, str]) -> BaseRoute:
    from cxguard.dashboard import BasicAuth, dashboard

    return Mount(DESK_PATH, app=dashboard(guard, auth=BasicAuth(staff)))


def _app(
    books: Books,
    place: Place,
    *,
    secret: str,
    note: str,
    middleware: list[Middleware],
    life: _Life,
    terms: str = "",
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    return Starlette(
        routes=[*page_routes(books, place, secret=secret, note=note, terms=terms), *api_routes(books, place), *more],
        middleware=[*middleware, Middleware(SessionMiddleware, secret_key=secret)],
        lifespan=life,
    )


def _session_secret(database: Path) -> str:
    """Signs the visitors' cookies: made at the first start, and kept beside the orders, so that a restart knows them again."""
    return read_or_make(database.with_suffix(".cookies"), used_before=False, make=lambda: secrets.token_hex(32))[0]


_Life = Callable[[Starlette], AbstractAsyncContextManager[None]]


def _life(gateway: Gateway, books: Books) -> _Life:
    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        if isinstance(gateway, HttpGateway):
            await gateway.aclose()
        books.close()

    return life
