"""What is measured on servers: the small shop behind the guard on Redis and on PostgreSQL, behind the peers on the same Redis,
and behind two bare commands, below which nothing can go that remembers a key before and an answer after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from redis.asyncio import Redis
from subjects import KEYS, SECRET, SHOP, App, Around, Subject

from cxguard import Guard, Rule, header
from cxguard.asgi import GuardMiddleware

LEASE_SECONDS, KEEP_SECONDS = 30, 86_400
_runs = count(1)


def on_servers(redis_url: str, postgres_url: str) -> tuple[Subject, ...]:
    """All of them, the floor first."""
    return (
        Subject("two bare commands", "redis-py: SET NX before, SET after; a replay: SET NX, GET", bare_commands(redis_url)),
        Subject("cxguard, Redis", 'Rule("POST /pay", owner=header("x-user-id")), redis://, answers sealed', guarded(redis_url)),
        Subject("cxguard, PostgreSQL", "as above, postgresql://", guarded(postgres_url)),
        Subject("idemkit", "RedisBackend.from_url(...), HttpConfig(scope=x-user-id)", idemkit(redis_url)),
        Subject("asgi-idempotency-header", "RedisBackend(Redis.from_url(...)), defaults", snok(redis_url)),
        Subject("fastapi-idempotency-key", "RedisBackend(redis_url=...), default_ttl=86400", fik(redis_url)),
    )


def guarded(url: str) -> Around:
    """The guard, each time with a namespace that is empty."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        rule = Rule("POST /pay", owner=header("x-user-id"), key=header("Idempotency-Key"))
        guard = Guard(url, rules=[rule], shop=SHOP, secret=SECRET, keys=KEYS, duties=False, namespace=_fresh())
        async with guard:
            yield GuardMiddleware(app, guard=guard)

    return around


def bare_commands(url: str) -> Around:
    """The key before and the answer after, by redis-py's own client and settings. It protects from nothing."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        prefix = _fresh()
        async with Redis.from_url(url) as client:
            yield lambda scope, receive, send: _remembered(client, prefix, app, scope, receive, send)

    return around


async def _remembered(client: Any, prefix: str, app: App, scope: Any, receive: Any, send: Any) -> None:
    name = f"{prefix}:{dict(scope['headers'])[b'idempotency-key'].decode()}"
    if not await client.set(name, b"running", nx=True, ex=LEASE_SECONDS):
        body = await client.get(name)
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": body})
        return
    messages: list[dict[str, Any]] = []

    async def keep(message: dict[str, Any]) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    await client.set(name, b"".join(message.get("body", b"") for message in messages), ex=KEEP_SECONDS)
    for message in messages:
        await send(message)


def idemkit(url: str) -> Around:
    """Its README's middleware, with the scope that it asks for."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        from idemkit import HttpConfig, IdempotencyMiddleware
        from idemkit.backends.redis import RedisBackend

        config = HttpConfig(scope=lambda request: request.headers.get("x-user-id", "anonymous"))
        async with RedisBackend.from_url(url, namespace=_fresh()) as backend:
            yield IdempotencyMiddleware(app, backend=backend, config=config)

    return around


def snok(url: str) -> Around:
    """Its README's middleware; it has no owner."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        from idempotency_header_middleware import IdempotencyHeaderMiddleware
        from idempotency_header_middleware.backends import RedisBackend

        prefix = _fresh()
        async with Redis.from_url(url) as client:
            backend = RedisBackend(client, keys_key=f"{prefix}-keys", response_key=f"{prefix}-answers")
            yield IdempotencyHeaderMiddleware(app, backend=backend)

    return around


def fik(url: str) -> Around:
    """Its README's middleware; it has no owner."""

    @asynccontextmanager
    async def around(app: App) -> AsyncIterator[App]:
        from fastapi_idempotency_key import IdempotencyMiddleware, RedisBackend

        async with Redis.from_url(url) as client:
            backend = RedisBackend(redis=client, prefix=f"{_fresh()}:")
            yield IdempotencyMiddleware(app, backend=backend, header_name="Idempotency-Key", default_ttl=KEEP_SECONDS)

    return around


def _fresh() -> str:
    return f"run{next(_runs)}"
