"""What is measured: one small shop, bare, behind the guard, and behind the peers, each set as its documentation says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxguard import Guard, Rule, Shop, header
from cxguard.asgi import GuardMiddleware

App = Callable[[Any, Any, Any], Any]
Around = Callable[[App], AbstractAsyncContextManager[App]]

SECRET, KEYS = bytes(range(32)), [bytes(range(1, 33))]
SHOP = Shop("Fern & Co", phone="+44 20 7946 0000")


@dataclass(frozen=True, slots=True)
class Subject:
    """Something around the shop.

    Attributes:
        settings: how it was set, for the reader of the table.
        guards: it answers a repeated key by itself.
        durable: it writes to a disk, so it is called less often.
    """

    name: str
    settings: str
    around: Around
    guards: bool = True
    durable: bool = False


class Shopfloor:
    """The shop: two paths, and a count of the orders that its handler really took."""

    def __init__(self) -> None:
        self.orders = 0
        self.app = Starlette(routes=[Route("/catalogue", self.catalogue), Route("/pay", self.pay, methods=["POST"])])

    async def catalogue(self, request: Request) -> JSONResponse:
        return JSONResponse({"plants": 3})

    async def pay(self, request: Request) -> JSONResponse:
        order = await request.json()
        self.orders += 1
        return JSONResponse({"order": self.orders, "cart": order["cart"]}, status_code=201)


@asynccontextmanager
async def bare(app: App) -> AsyncIterator[App]:
    """Nothing around it."""
    yield app


def memory(*, key_required: bool = True) -> Around:
    """The guard, keeping everything in memory."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        async with _guard("memory://", key_required=key_required) as guard:
            yield GuardMiddleware(app, guard=guard)

    return around


def sqlite(folder: Path) -> Around:
    """The guard, on a file: each answer is on the disk before it leaves."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        with TemporaryDirectory(dir=folder) as place:
            async with _guard(f"sqlite:///{place}/guard.db", key_required=True) as guard:
                yield GuardMiddleware(app, guard=guard)

    return around


def _guard(store: str, *, key_required: bool) -> Guard:
    rule = Rule("POST /pay", owner=header("x-user-id"), key=header("Idempotency-Key"), key_required=key_required)
    return Guard(store, rules=[rule], shop=SHOP, secret=SECRET, keys=KEYS, duties=False)


@asynccontextmanager
async def idemkit(app: App) -> AsyncIterator[App]:
    """Its README's middleware, with the scope that it asks for."""
    from idemkit import HttpConfig, IdempotencyMiddleware, InMemoryBackend

    config = HttpConfig(scope=lambda request: request.headers.get("x-user-id", "anonymous"))
    yield IdempotencyMiddleware(app, backend=InMemoryBackend(), config=config)


@asynccontextmanager
async def snok(app: App) -> AsyncIterator[App]:
    """Its README's middleware; it has no owner."""
    from idempotency_header_middleware import IdempotencyHeaderMiddleware
    from idempotency_header_middleware.backends import MemoryBackend

    yield IdempotencyHeaderMiddleware(app, backend=MemoryBackend())


@asynccontextmanager
async def fik(app: App) -> AsyncIterator[App]:
    """Its README's middleware; it has no owner."""
    from fastapi_idempotency_key import IdempotencyMiddleware, MemoryBackend

    yield IdempotencyMiddleware(app, backend=MemoryBackend(), header_name="Idempotency-Key", default_ttl=86400)


BARE = Subject("bare Starlette", f"Starlette {version('starlette')}", bare, guards=False)
OPTIONAL = Subject("cxguard, key not required", 'Rule("POST /pay", ..., key_required=False), memory://', memory(key_required=False))
MEMORY = Subject("cxguard, memory", 'Rule("POST /pay", owner=header("x-user-id")), memory://, answers sealed', memory())
PEERS = (
    Subject("idemkit", f"{version('idemkit')}: InMemoryBackend(), HttpConfig(scope=x-user-id)", idemkit),
    Subject("asgi-idempotency-header", f"{version('asgi-idempotency-header')}: MemoryBackend(), defaults", snok),
    Subject("fastapi-idempotency-key", f"{version('fastapi-idempotency-key')}: MemoryBackend(), default_ttl=86400", fik),
)


def on_disk(folder: Path) -> Subject:
    """The guard on SQLite, in *folder*."""
    return Subject("cxguard, SQLite", f"as above, sqlite:///, fsync for every order, in {folder}", sqlite(folder), durable=True)
