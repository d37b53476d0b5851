"""Ten clicks at once: what they cost the store, and that what is told comes from there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from shopworld import KEYS, SECRET, SHOP, World, Worlds, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard import Charge, Guard, current_operation
from cxguard.asgi import GuardMiddleware
from cxguard.core.hints import awaited_topic
from cxguard.core.operation import Operation
from cxguard.engine import waiting
from cxguard.stores.base import Level, Opened
from cxguard.testing.fake_gateway import FakeGateway
from cxguard.testing.faulty_store import Fault, FaultyStore

pytestmark = pytest.mark.asyncio

AT_ONCE = 10
COMMANDS_MAX = 6


class Till:
    """A handler that is in the middle of a charge until it is let go."""

    def __init__(self, status: int = 201) -> None:
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.status = status

    async def handle(self, request: Request) -> Response:
        body = await request.json()
        self.began.set()
        await self.go_on.wait()
        if self.status == 201:
            await current_operation().charge(Charge(body["amount"], "EUR", source="tok_ok"))
        return JSONResponse({"paid": self.status == 201}, status_code=self.status)


async def during(till: Till, shop: World, others: Callable[[], Awaitable[Any]]) -> tuple[httpx.Response, Any]:
    """The first one's answer, and what *others* came to that came while it was at work."""
    first = asyncio.create_task(shop.pay())
    await till.began.wait()
    coming = asyncio.ensure_future(others())
    for _ in range(200):
        await asyncio.sleep(0)
    till.go_on.set()
    return await first, await coming


async def test_ten_clicks_at_once_ask_the_store_for_the_first_and_read_once_for_the_others(world: Worlds) -> None:
    """Opened once, written twice, and read once: all ten get the same answer."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=5.0), faulty=True)
    assert isinstance(shop.store, FaultyStore)
    first, others = await during(till, shop, lambda: asyncio.gather(*(shop.pay() for _ in range(AT_ONCE - 1))))
    counted = {verb: shop.store.calls[verb] for verb in ("open", "save", "get", "seize")}
    assert counted == {"open": 1, "save": 2, "get": 1, "seize": 0}
    assert {(answer.status_code, answer.text) for answer in (first, *others)} == {(201, '{"paid":true}')}
    assert len(shop.gateway.standing) == 1


async def test_another_basket_under_the_same_key_is_told_so_at_once(world: Worlds) -> None:
    """It does not wait for the first one's answer, though this process is at work on that: 422, by the store's word."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=5.0))
    first = asyncio.create_task(shop.pay())
    await till.began.wait()
    other = await shop.pay(amount=2000)
    assert (other.status_code, first.done()) == (422, False)
    till.go_on.set()
    assert (await first).status_code == 201


async def test_when_the_first_one_frees_the_key_one_other_takes_over(world: Worlds) -> None:
    """A validation error: nine waited, each is let in when it is its turn, and none twice."""
    till = Till(status=422)
    shop = await world(till.handle, rule(wait_seconds=5.0))
    first, others = await during(till, shop, lambda: asyncio.gather(*(shop.pay() for _ in range(AT_ONCE - 1))))
    assert {answer.status_code for answer in (first, *others)} == {422}


async def test_a_lease_that_this_process_may_have_lost_is_asked_about(world: Worlds) -> None:
    """It could not be renewed in time: what this process remembers of it is worth nothing, and the store is asked."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=0.1), faulty=True)
    assert isinstance(shop.store, FaultyStore)
    first = asyncio.create_task(shop.pay())
    await till.began.wait()
    shop.clock.advance(3_600.0)
    second = asyncio.create_task(shop.pay())
    for _ in range(200):
        await asyncio.sleep(0)
    assert shop.store.calls["open"] == 2
    till.go_on.set()
    await asyncio.gather(first, second)


async def test_who_has_waited_long_enough_is_told_how_it_stands_now(world: Worlds) -> None:
    """In flight, by what the store says at that moment."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=0.05), faulty=True)
    assert isinstance(shop.store, FaultyStore)
    first = asyncio.create_task(shop.pay())
    await till.began.wait()
    read = shop.store.calls["get"]
    answer = await shop.pay()
    assert (answer.status_code, shop.store.calls["get"]) == (409, read + 1)
    till.go_on.set()
    await first


class Stuck(FaultyStore):
    """A store on which the first call to open hangs."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def open(self, operation: Operation, **options: Any) -> Opened:
        if not self.begun.is_set():
            self.begun.set()
            await self.go_on.wait()
        return await super().open(operation, **options)


async def test_call_that_hangs_keeps_the_second_click_no_longer_than_it_waits(world: Worlds) -> None:
    """Then it asks the store by itself, and one of the two is charged."""
    till = Till()
    till.go_on.set()
    shop = await world(till.handle, rule(wait_seconds=0.05), faulty=True, wrap=Stuck)
    assert isinstance(shop.store, Stuck)
    shop.clock.advance(3_600.0)
    first = asyncio.create_task(shop.pay())
    await shop.store.begun.wait()
    async with asyncio.timeout(20):
        assert (await shop.pay()).status_code == 201
    shop.store.go_on.set()
    assert ((await first).headers["idempotency-replayed"], len(shop.gateway.standing)) == ("true", 1)


async def test_duplicates_are_not_told_an_end_that_was_not_written(world: Worlds) -> None:
    """The store took the line before the charge, and not the end: they hear "unknown", as everybody does, and never "paid"."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=0.5), faulty=True)
    assert isinstance(shop.store, FaultyStore)
    store = shop.store

    async def clicks() -> list[httpx.Response]:
        store.plan("save", Fault.NOT_DONE, times=10, after=1)
        return await asyncio.gather(*(shop.pay() for _ in range(3)))

    _, others = await during(till, shop, clicks)
    assert [answer.status_code for answer in others] == [409] * 3
    assert {answer.json()["money"] for answer in others} <= {"unknown"}
    assert len(shop.gateway.standing) == 1


class Replicated(FaultyStore):
    """Says that what it acknowledges is on another machine, too."""

    level = Level.REPLICATED  # type: ignore[assignment]


async def test_where_writes_are_replicated_each_duplicate_asks(world: Worlds) -> None:
    """A read would not say whether what it finds has reached the other machine; asking does."""
    till = Till()
    shop = await world(till.handle, rule(wait_seconds=5.0), faulty=True, wrap=Replicated)
    assert isinstance(shop.store, FaultyStore)
    first, others = await during(till, shop, lambda: asyncio.gather(*(shop.pay() for _ in range(3))))
    assert [answer.status_code for answer in (first, *others)] == [201] * 4
    assert shop.store.calls["open"] == 4


# On real servers.


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


async def process(stack: AsyncExitStack, url: str, handler: Any) -> tuple[Guard, httpx.AsyncClient]:
    """One process of a shop: its guard and its client."""
    guard = Guard(
        url, rules=[rule(wait_seconds=9.0)], shop=SHOP, gateways=[FakeGateway()], secret=SECRET, keys=KEYS, duties=False
    )
    await stack.enter_async_context(guard)
    app = GuardMiddleware(Starlette(routes=[Route("/pay", handler, methods=["POST"])]), guard=guard)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example")
    return guard, await stack.enter_async_context(client)


async def pay(client: httpx.AsyncClient, key: str) -> httpx.Response:
    return await client.post("/pay", json={"amount": 1000, "currency": "EUR"}, headers={"x-user": "ann", "idempotency-key": key})


@pytest.mark.server
async def test_ten_clicks_at_once_are_six_commands_at_most(redis_url: str) -> None:
    """What Redis itself says that it was sent, for ten submits of one key."""
    till = Till()
    till.go_on.set()
    async with AsyncExitStack() as stack:
        guard, client = await process(stack, redis_url, till.handle)
        watcher = await stack.enter_async_context(Redis.from_url(redis_url))
        await guard.breakers.stop()
        await guard.engine.operations.hints.stop()
        await guard.recorder.stop()
        await asyncio.gather(*(pay(client, "warm") for _ in range(AT_ONCE)))
        seen = await stack.enter_async_context(watcher.monitor())
        answers = await asyncio.gather(*(pay(client, "counted") for _ in range(AT_ONCE)))
        await watcher.echo("over")
        sent = await sent_until(seen, "ECHO over")
    assert [answer.status_code for answer in answers] == [201] * AT_ONCE
    assert len(sent) <= COMMANDS_MAX, sent


async def sent_until(seen: Any, last: str) -> list[str]:
    sent: list[str] = []
    while (line := await seen.next_command())["command"] != last:
        if line["client_type"] != "lua":
            sent.append(line["command"][:40])
    return sent


@pytest.mark.server
async def test_a_duplicate_in_another_process_is_woken_by_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks by themselves here: the process at work hears that somebody waits elsewhere, and says when it is over."""
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 3_600.0)
    monkeypatch.setattr(waiting, "HINTED_LOOK_SECONDS", 3_600.0)
    till, heard = Till(), asyncio.Queue[str]()
    async with AsyncExitStack() as stack:
        guard, here = await process(stack, url, till.handle)
        _, there = await process(stack, url, till.handle)
        guard.engine.operations.hints.listen(heard.put_nowait)
        key = f"k{time.monotonic_ns()}"
        first = asyncio.create_task(pay(here, key))
        await till.began.wait()
        second = asyncio.create_task(pay(there, key))
        async with asyncio.timeout(10):
            while not (await heard.get()).startswith(awaited_topic("")):
                pass
            till.go_on.set()
            answers = await asyncio.gather(first, second)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["idempotency-replayed"] == "true"
