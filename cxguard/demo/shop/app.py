"""The shop, put together: once as many shops are, once with the guard around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware

from cxguard.demo.shop.api import api_routes
from cxguard.demo.shop.books import Books
from cxguard.demo.shop.pages import page_routes
from cxguard.demo.shop.placing import unguarded
from cxguard.gateways.http import HttpGateway

SESSION_SECRET = "fern-and-co-demo-only"  # a demo on the loopback interface; a shop's own comes from its environment


def make_shop(gateway_url: str, database: Path, *, guarded: bool) -> Starlette:
    """Fern & Co as an ASGI app, charging at *gateway_url*, with its orders in *database*."""
    gateway = HttpGateway("http:fern-co:demo", gateway_url)
    books = Books(database)
    place = unguarded(gateway, books)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.aclose()
        books.close()

    note = "This shop has no guard." if not guarded else "This shop is guarded."
    return Starlette(
        routes=[*page_routes(books, place, secret=SESSION_SECRET, note=note), *api_routes(books, place)],
        middleware=[Middleware(SessionMiddleware, secret_key=SESSION_SECRET)],
        lifespan=lifespan,
    )
