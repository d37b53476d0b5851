"""Floods: keys, waiting duplicates, drips and monstrous headers without end. Memory stays where it was, and everybody is answered."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fuzz_budget import TIMES
from shopworld import KEYS, SECRET, SHOP, World, Worlds, charging_handler, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.asgi.bodies import HEADERS_BYTES_MAX
from cxguard.engine.waiting import LATELY_MAX
from cxguard.guard import Guard
from cxguard.stores.base import Query

pytestmark = pytest.mark.asyncio

BODY = json.dumps({"amount": 1000, "currency": "EUR", "cart": "c"}).encode()
HEADERS = ((b"content-type", b"application/json"), (b"x-user", b"ann"))
KEYS_SENT, DUPLICATES, DRIPS = 500 * min(TIMES, 50), 500 if TIMES == 1 else 10_000, 300


async def ask(app: Any, *headers: tuple[bytes, bytes], pieces: AsyncIterator[bytes] | None = None) -> int:
    """One submit, by ASGI alone: a client of its own for each would cost more than the guard. The answer's status."""
    statuses: list[int] = []
    whole = [{"type": "http.request", "body": BODY, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if pieces is not None:
            return {"type": "http.request", "body": await anext(pieces), "more_body": True}
        if not whole:
            await asyncio.Event().wait()
        return whole.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "POST", "path": "/pay", "query_string": b"", "scheme": "https", "headers": [*HEADERS, *headers]}
    await app(scope, receive, send)
    (status,) = statuses
    return status


@contextmanager
def grown() -> Iterator[Callable[[], int]]:
    """`measured()`: by how many bytes Python's memory has grown since, garbage taken away."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    def measured() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    yield measured
    tracemalloc.stop()


async def taken(request: Request) -> Response:
    """The shop charges by itself: no fake gateway whose books grow."""
    return Response(b"thank you", 201)


@pytest_asyncio.fixture
async def on_file(tmp_path: Path) -> AsyncIterator[Any]:
    """A shop that keeps its records on a disk, as shops do."""
    by_shop = rule(charged_by="shop")
    guard = Guard(f"sqlite:///{tmp_path}/shop.db", rules=[by_shop], shop=SHOP, secret=SECRET, keys=KEYS, duties=False)
    async with guard:
        yield GuardMiddleware(Starlette(routes=[Route("/pay", taken, methods=["POST"])]), guard=guard)


async def test_a_flood_of_keys_leaves_nothing_in_memory(on_file: Any) -> None:
    """Each new key is a record on the disk, each refused one is nothing, and neither leaves a byte in the process."""

    async def flood(first: int, count: int) -> Counter[int]:
        keys = [form % number for number in range(first, first + count) for form in (b"key-%d", b"no key %d")]
        told: Counter[int] = Counter()
        for at in range(0, len(keys), 100):
            told += Counter(await asyncio.gather(*(ask(on_file, (b"idempotency-key", key)) for key in keys[at : at + 100])))
        return told

    await flood(0, 50)
    with grown() as measured:
        assert await flood(20_000, KEYS_SENT) == {201: KEYS_SENT, 400: KEYS_SENT}
        lately = min(KEYS_SENT, LATELY_MAX) * 2_000  # the names of those that ended last are known for a moment
        assert measured() < lately + KEYS_SENT * 60, "a record, or what was sent, would be more"


async def test_waiting_duplicates_are_bounded_and_all_answered(world: Worlds) -> None:
    """However many press while the first one is at the gateway: one run, one charge, one answer for all, and some kB for each."""
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        at_work.set()
        await go_on.wait()
        return await charging_handler(request)

    shop: World = await world(slow, rule(wait_seconds=30.0, deadline_seconds=60.0))
    first = asyncio.create_task(ask(shop.app, (b"idempotency-key", b"k1")))
    await at_work.wait()
    with grown() as measured:
        others = [asyncio.create_task(ask(shop.app, (b"idempotency-key", b"k1"))) for _ in range(DUPLICATES)]
        for _ in range(100):  # until each has found the first one at work
            await asyncio.sleep(0)
        assert len(shop.guard.runs) == DUPLICATES + 1
        assert measured() < DUPLICATES * 40_000
        go_on.set()
        assert Counter([await first, *await asyncio.gather(*others)]) == {201: DUPLICATES + 1}
        others.clear()
        assert measured() < DUPLICATES * 2_000, "who was answered is forgotten"
    assert len(shop.gateway.standing) == 1


async def test_clients_that_drip_hold_nothing_and_nobody_up(world: Worlds) -> None:
    """Hundreds of bodies that never end: each is let go after the rule's time, no order is opened, and an honest one is paid meanwhile."""
    shop = await world(charging_handler, rule(body_seconds_max=0.5))

    async def drip() -> AsyncIterator[bytes]:
        yield BODY[:1]
        await asyncio.Event().wait()

    dripping = [asyncio.create_task(ask(shop.app, (b"idempotency-key", b"d%d" % number), pieces=drip())) for number in range(DRIPS)]
    await asyncio.sleep(0)
    assert await ask(shop.app, (b"idempotency-key", b"honest")) == 201
    assert not any(task.done() for task in dripping), "they were still at it"
    assert Counter(await asyncio.gather(*dripping)) == {408: DRIPS}
    assert len((await shop.store.search(Query("shop"))).operations) == 1


@pytest.mark.parametrize("over", [0, 1])
async def test_headers_have_an_end(world: Worlds, over: int) -> None:
    """Up to the limit they are kept with the request; a byte more is 431, and opens nothing."""
    shop = await world()
    fixed = (b"idempotency-key", b"k1")
    used = sum(len(name) + len(value) for name, value in (*HEADERS, fixed))
    status = await ask(shop.app, fixed, (b"x-long", b"a" * (HEADERS_BYTES_MAX - used - len(b"x-long") + over)))
    assert status == (431 if over else 201)
    assert len(shop.gateway.standing) == 1 - over


@pytest.mark.parametrize("name", [b"x-%d" + b"y" * 4_000, b"accept", b"content-type", b"prefer", b"accept-language"])
async def test_what_strange_headers_say_is_not_remembered(world: Worlds, name: bytes) -> None:
    """What browsers send the same all day is read once; what is long is not kept for the next time."""
    shop = await world()

    async def flood(first: int, count: int) -> None:
        for number in range(first, first + count):
            named = name % number if b"%d" in name else name
            value = b"text/x-%d;" % number + b"z" * 4_000
            await ask(shop.app, (named, value))  # without a key: refused, when all of this has been read

    await flood(0, 20)
    with grown() as measured:
        await flood(20, 300)
        assert measured() < 300_000, "a fourth of what 300 of them have"


@pytest.mark.parametrize("deep", [b"[" * 60_000, b'{"a":' * 10_000, b"[" * 900 + b"]" * 900], ids=["open lists", "open objects", "closed"])
async def test_deep_json_is_read_or_refused_and_breaks_nothing(world: Worlds, deep: bytes) -> None:
    """Before the charge it is the client's mistake; in the shop's own answer, after it, it is nobody's."""

    async def deep_answer(request: Request) -> Response:
        await charging_handler(request)
        return Response(deep, 201, media_type="application/json")

    shop = await world(deep_answer)
    sent = {"x-user": "ann", "content-type": "application/json"}
    body = BODY[:-1] + b',"x":' + deep + b"}"
    told = [await shop.client.post("/pay", content=body, headers={**sent, "idempotency-key": "deep"}) for _ in range(2)]
    assert {each.status_code for each in told} <= {201, 400}
    before = len(shop.gateway.standing)
    answers = [await shop.client.post("/pay", content=BODY, headers={**sent, "idempotency-key": "plain"}) for _ in range(2)]
    assert [(each.status_code, each.content) for each in answers] == [(201, deep)] * 2
    assert len(shop.gateway.standing) == before + 1
