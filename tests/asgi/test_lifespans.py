"""The app's lifespan and the guard's work beside it: kept orders run in an app that is ready, and find what it opened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from shopworld import KEYS, SECRET, SHOP, rule
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.engine.handle import current_operation
from cxguard.errors import ConfigurationError
from cxguard.events import Event
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import replay
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.testing import ManualClock
from cxguard.testing.fake_gateway import Does, FakeGateway
from cxguard.testing.faulty_store import Fault, FaultyStore
from cxguard.worker import Lifespan

pytestmark = pytest.mark.asyncio
ORDER = {"amount": 1000, "currency": "EUR", "cart": "c1"}
HEADERS = {"x-user": "ann", "idempotency-key": "k1", "prefer": "respond-async"}


class Shop:
    """A shop that writes its orders into what its lifespan has opened, in the way of Starlette's and FastAPI's documentation."""

    def __init__(self, store: Store, gateway: FakeGateway, clock: ManualClock, **options: Any) -> None:
        given = {"rules": (rule(later=replay, terms="1"),), "gateways": [gateway], "secret": SECRET, **options}
        self.guard = Guard(store, shop=SHOP, keys=KEYS, clock=clock, **given)
        self.books: list[str] = []
        self.log: list[str] = []
        self.opening = asyncio.Event()
        app = Starlette(routes=[Route("/pay", self.pay, methods=["POST"])], lifespan=self.lifespan)
        self.app = GuardMiddleware(app, guard=self.guard)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[dict[str, Any]]:
        await self.opening.wait()
        self.log.append("ready")
        yield {"books": self.books}
        self.log.append("closed")

    async def pay(self, request: Request) -> Response:
        self.log.append("pay")
        body = await request.json()
        books = request.state.books
        payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
        books.append(payment.payment_id)
        return JSONResponse({"paid": payment.payment_id}, status_code=201)


async def kept_order(store: MemoryStore, clock: ManualClock) -> None:
    """Leave an order in the store that waits for the end of an outage, and is due."""
    gateway = FakeGateway()
    gateway.will(*[Does.NOT_CHARGED] * 3)
    async with AsyncExitStack() as stack:
        shop = Shop(store, gateway, clock, duties=False)
        shop.opening.set()
        await stack.enter_async_context(shop.guard)
        transport = httpx.ASGITransport(_with_state(shop.app, {"books": []}))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop.example"))
        told = await client.post("/pay", json=ORDER, headers=HEADERS)
        assert told.json()["situation"] == "kept"
    clock.advance(60.0)


def _with_state(app: Any, state: dict[str, Any]) -> Any:
    """The app, served as a server does that hands the lifespan's state to each request."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return served


async def test_a_kept_order_finds_what_the_lifespan_left_for_requests() -> None:
    """`yield {"books": ...}` reaches each request as `request.state`, also one that runs again without a server."""
    clock = ManualClock()
    store, gateway = MemoryStore(clock=clock), FakeGateway()
    await kept_order(store, clock)
    shop = Shop(store, gateway, clock, duties=False)
    shop.opening.set()
    lifespan = Lifespan(shop.app)
    assert await lifespan.start()
    await shop.guard.queue().run_once()
    await lifespan.stop()
    assert len(shop.books) == len(gateway.standing) == 1


async def test_kept_orders_wait_until_the_app_is_ready() -> None:
    """A process that starts while orders are due runs none of them before its own start is over: nothing that they need is there."""
    clock = ManualClock()
    store, gateway = MemoryStore(clock=clock), FakeGateway()
    await kept_order(store, clock)
    finished = asyncio.Event()
    shop = Shop(store, gateway, clock, listeners=[_Finishing(finished)])
    lifespan = Lifespan(shop.app)
    starting = asyncio.create_task(lifespan.start())
    for _ in range(200):  # turns of the loop in which an early queue would have had the order
        await asyncio.sleep(0)
    assert shop.log == []
    shop.opening.set()
    assert await starting
    async with asyncio.timeout(10.0):
        await finished.wait()
    await lifespan.stop()
    assert shop.log == ["ready", "pay", "closed"]


async def test_a_process_without_the_app_leaves_alone_what_only_the_app_can_place() -> None:
    """A script that refunds something, say, with the shop's own guard: its duties must not put kept orders on a person's desk."""
    clock = ManualClock()
    store, gateway = MemoryStore(clock=clock), FakeGateway()
    await kept_order(store, clock)
    script = Guard(store, rules=(rule(later=replay, terms="1"),), shop=SHOP, secret=SECRET, keys=KEYS, gateways=[gateway], clock=clock)
    async with script:
        queue = script.queue()
        assert (await queue.run_once()).taken == 0
        GuardMiddleware(_with_state(Shop(store, gateway, clock).app.app, {"books": []}), guard=script)
        assert (await queue.run_once()).ended == 1  # the same queue, once the app is there
    assert len(gateway.standing) == 1


async def test_no_kept_order_runs_while_the_app_closes() -> None:
    """The queue has ended before the app hears that it is to close what its orders need."""
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    shop = Shop(store, FakeGateway(), clock)
    shop.opening.set()
    lifespan = Lifespan(shop.app)
    assert await lifespan.start()
    names: list[set[str]] = []
    shop.log = _Noting(names)
    await lifespan.stop()
    assert len(names) == 1 and "cxguard-queue" not in names[0]


async def test_settings_that_cannot_work_fail_the_start() -> None:
    """The server hears it in the protocol's own words: of an app that only raises it thinks that it has no lifespan, and serves it."""
    shop = Shop(MemoryStore(clock=ManualClock()), FakeGateway(), ManualClock(), secret=b"a" * 32)
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ConfigurationError, match="is not random"):
        await shop.app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "cxguard did not start: CXGUARD_SECRET is not random" in sent[0]["message"]
    assert shop.log == []


async def test_a_guard_that_cannot_start_says_so_once_a_minute_and_what_becomes_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Each request finds it out anew: two lines for each were all that the log of an outage had room for."""
    store = FaultyStore(MemoryStore(clock=ManualClock()))
    store.plan("start", Fault.NOT_DONE, times=100)
    shop = Shop(store, FakeGateway(), ManualClock(), duties=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://shop.example") as client:
        for _ in range(5):
            assert (await client.post("/pay", json=ORDER, headers=HEADERS)).status_code == 503
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "cxguard-start"))
    said = [json.loads(record.getMessage()) for record in caplog.records if record.name == "cxguard.lifespan"]
    whys = [line["why"] for line in said]
    assert whys and len(whys) == len(set(whys)) and all("503" in line["meanwhile"] for line in said)


@pytest.mark.parametrize("raises", [True, False])
async def test_kept_orders_are_placed_where_the_app_has_no_lifespan(raises: bool) -> None:
    """An app that makes nothing of the first message, or breaks at it, is served all the same; so its queue is worked on."""
    clock = ManualClock()
    store, gateway = MemoryStore(clock=clock), FakeGateway()
    await kept_order(store, clock)
    finished = asyncio.Event()
    shop = Shop(store, gateway, clock, listeners=[_Finishing(finished)])

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await shop.app.app(scope, receive, send)
        elif (await receive())["type"] != "http.request" and raises:
            raise KeyError("body")

    app = GuardMiddleware(_with_state(plain, {"books": shop.books}), guard=shop.guard)
    assert not await Lifespan(app).start()
    async with asyncio.timeout(10.0):
        await finished.wait()
    await shop.guard.stop()
    assert len(gateway.standing) == 1


class _Finishing:
    """Says that an order was finished."""

    def __init__(self, finished: asyncio.Event) -> None:
        self._finished = finished

    def __call__(self, event: Event) -> None:
        if event.name == "operation.finished":
            self._finished.set()


class _Noting(list[str]):
    """Notes which tasks there are when something is logged."""

    def __init__(self, names: list[set[str]]) -> None:
        super().__init__()
        self._names = names

    def append(self, line: str) -> None:
        self._names.append({task.get_name() for task in asyncio.all_tasks() if not task.done()})
        super().append(line)
