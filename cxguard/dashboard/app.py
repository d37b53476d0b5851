"""Routes, door and lifespan of the desk, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cxguard.dashboard.auth import Auth
from cxguard.dashboard.door import Door, store_away
from cxguard.dashboard.pages import Pages
from cxguard.dashboard.rendering import page
from cxguard.errors import BadRequest, ConfigurationError, NoSuchOrder, StoreError, StoreUnavailable
from cxguard.guard import Guard


def dashboard(guard: Guard, *, auth: Auth | None = None) -> ASGIApp:
    """The desk of *guard*: an ASGI app to mount under any path, or to serve alone.

    Args:
        auth: given the request, the name of whoever asks (sync or async); None: nobody who may come in; or a `Response`,
            a redirect to the shop's sign-in for instance. Without `auth` every page answers 403 and says what to write.

    Raises:
        ConfigurationError: the guard's own texts cannot be used, or `auth` cannot be asked.
    """
    if auth is not None and not callable(auth):
        raise ConfigurationError('auth= cannot be asked: write dashboard(guard, auth=lambda request: request.session.get("staff"))')
    pages = Pages(guard)
    routes = [
        Route("/", pages.now, methods=["GET"]),
        Route("/now.json", pages.live, methods=["GET"]),
        Route("/next", pages.next, methods=["GET"]),
        Route("/search", pages.search, methods=["POST"]),
        Route("/orders", pages.orders, methods=["GET"]),
        Route("/orders/{name}", pages.order, methods=["GET"]),
        Route("/orders/{name}/live.json", pages.order_live, methods=["GET"]),
        Route("/orders/{name}/{action}", pages.act, methods=["POST"]),
        Route("/gateways", pages.gateways, methods=["GET"]),
        Route("/gateways", pages.decide, methods=["POST"]),
        Route("/assets/{name}", pages.asset, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers=_handlers(guard), lifespan=_lifespan(guard))
    return Door(app, guard, auth)


Handler: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


def _handlers(guard: Guard) -> dict[Any, Handler]:
    """Ordinary troubles are pages, too."""

    async def missing(request: Request, error: Exception) -> Response:
        words = "No order of this shop has that reference. Search for the shopper's e-mail address or phone number instead."
        return page(request, "refused.html", status=404, shop=guard.shop, title="No such order", words=words)

    async def unreadable(request: Request, error: Exception) -> Response:
        status = error.status if isinstance(error, BadRequest) else 400
        return page(request, "refused.html", status=status, shop=guard.shop, title="This cannot be read", words=f"{error}.")

    async def away(request: Request, error: Exception) -> Response:
        return store_away(request, guard)

    async def nowhere(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        return page(request, "refused.html", status=status, shop=guard.shop, title="No such page", words="The desk has no such page.")

    return {NoSuchOrder: missing, BadRequest: unreadable, StoreError: away, HTTPException: nowhere}


def _lifespan(guard: Guard) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """For a desk that is served alone; one that is mounted starts the guard with its first request."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            await guard.start()
        except StoreUnavailable:
            pass  # each request tries again, and says so
        try:
            yield
        finally:
            await guard.stop()

    return lifespan
