"""How often a request asks a store on another machine: each time costs the shopper a way there and back.

Counted where it happens, on the way to real servers. What a guard does beside its requests (breakers, hints, sessions) is stopped,
and its clock stands still, so that what is counted is the requests' own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from postgres_server import postgres_binaries, running_postgres
from redis_servers import have_redis, running_redis
from shopworld import KEYS, SECRET, SHOP, charging_handler, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tcp_proxy import TcpProxy, proxied

from cxguard.asgi import GuardMiddleware
from cxguard.guard import Guard
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import FakeGateway

pytestmark = pytest.mark.server

WARM = 4  # requests after which every script and statement is known to the server


async def shop_charges(request: Request) -> Response:
    """The shop's own code takes the money, unseen by the guard."""
    await request.body()
    return JSONResponse({"paid": True}, status_code=201)


async def catalogue(request: Request) -> Response:
    return JSONResponse({"plants": 3})


@dataclass
class Wired:
    """A guarded shop whose store is behind a proxy that counts."""

    proxy: TcpProxy
    client: httpx.AsyncClient

    async def trips(self, *keys: str, path: str = "/pay", warm: int = WARM) -> list[int]:
        """The round trips of one submit under each key, after some others."""
        for number in range(warm):
            await self._submit(path, f"warm-{path}-{number}")
        counted = []
        for key in keys:
            before = self.proxy.round_trips
            await self._submit(path, key)
            counted.append(self.proxy.round_trips - before)
        return counted

    async def browse(self) -> int:
        """The round trips of a request on a path without a rule."""
        before = self.proxy.round_trips
        assert (await self.client.get("/catalogue")).status_code == 200
        return self.proxy.round_trips - before

    async def _submit(self, path: str, key: str) -> None:
        sent = {"x-user": "ann", "idempotency-key": key}
        answer = await self.client.post(path, json={"amount": 1000, "currency": "EUR", "cart": key}, headers=sent)
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module", params=["redis", "postgres"])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "redis":
        if not have_redis():
            pytest.skip("no Redis here")
        with running_redis() as redis:
            yield redis
    else:
        if postgres_binaries() is None:
            pytest.skip("no PostgreSQL here")
        with running_postgres() as postgres:
            yield postgres


@pytest_asyncio.fixture
async def wired(server: Any) -> AsyncIterator[Wired]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied("127.0.0.1", server.port))
        guard = Guard(
            server.url.replace(str(server.port), str(proxy.port)),
            rules=(rule(), replace(rule(charged_by="shop"), match="POST /own", name="own")),
            shop=SHOP,
            gateways=[FakeGateway()],
            secret=SECRET,
            keys=KEYS,
            duties=False,
            clock=ManualClock(time.time()),
        )
        await stack.enter_async_context(guard)
        await guard.breakers.stop()
        await guard.engine.operations.hints.stop()
        await guard.recorder.stop()
        routes = [Route("/pay", charging_handler, methods=["POST"]), Route("/own", shop_charges, methods=["POST"])]
        app = GuardMiddleware(Starlette(routes=[*routes, Route("/catalogue", catalogue)]), guard=guard)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example")
        yield Wired(proxy, await stack.enter_async_context(client))


@pytest.mark.asyncio
async def test_a_new_key_of_a_shop_that_charges_itself_asks_the_store_twice(wired: Wired) -> None:
    """The line for what the shop may charge is in the record from the start: once to open it, once to end it."""
    assert await wired.trips("own-1", "own-2", "own-3", path="/own") == [2, 2, 2]


@pytest.mark.asyncio
async def test_a_new_key_that_the_guard_charges_asks_the_store_three_times(wired: Wired) -> None:
    """Open, write the line before the charge leaves, end: none of them can be spared."""
    assert await wired.trips("pay-1", "pay-2", "pay-3") == [3, 3, 3]


@pytest.mark.asyncio
async def test_a_replay_asks_the_store_once(wired: Wired) -> None:
    """What is there comes back with the question that would have opened it."""
    assert (await wired.trips("again", "again", "again"))[1:] == [1, 1]


@pytest.mark.asyncio
async def test_a_path_without_a_rule_does_not_ask_the_store(wired: Wired) -> None:
    """Whoever only browses waits for no store."""
    await wired.trips("some")
    assert await wired.browse() == 0
