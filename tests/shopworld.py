"""A small shop behind a guard, in one process: real middleware, engine and memory store; only the gateway is in memory."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cxguard.asgi import GuardMiddleware
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.guard import Guard
from cxguard.rules import Rule, Shop, header, json_field
from cxguard.stores.base import Store
from cxguard.stores.memory import MemoryStore
from cxguard.testing import FaultyStore, ManualClock
from cxguard.testing.fake_gateway import FakeGateway

SECRET = bytes(range(32))
KEYS = [bytes(range(1, 33))]
SHOP = Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")


@dataclass
class Till:
    """The shop's own charging, unseen by the guard: a ledger that counts. `keyed`: it passes our gateway key on."""

    charges: list[str] = field(default_factory=list)
    keyed: dict[str, str] = field(default_factory=dict)

    def charge(self, what: str = "basket", *, key: str | None = None) -> str:
        """Take the money; with a key, once for each key."""
        if key is not None and key in self.keyed:
            return self.keyed[key]
        self.charges.append(what)
        payment = f"pay-{len(self.charges)}"
        if key is not None:
            self.keyed[key] = payment
        return payment


@dataclass
class World:
    """One guarded app, and the levers to break it."""

    guard: Guard
    client: httpx.AsyncClient
    clock: ManualClock
    gateway: FakeGateway
    till: Till
    store: Store
    app: Any

    async def pay(
        self, *, key: str | None = "k1", owner: str = "ann", amount: int = 1000, cart: str = "c1", **headers: str
    ) -> httpx.Response:
        """One submit."""
        sent = {"x-user": owner, **({"idempotency-key": key} if key is not None else {}), **headers}
        return await self.client.post("/pay", json={"amount": amount, "currency": "EUR", "cart": cart}, headers=sent)

    async def rest(self, *, rounds: int = 20) -> None:
        """Let the queue work until nothing more is due."""
        for _ in range(rounds):
            if (await self.guard.queue().run_once()).taken == 0:
                return


async def charging_handler(request: Request) -> Response:
    """What the README shows: the guard charges."""
    body = await request.json()
    payment = await current_operation().charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def rule(**changes: Any) -> Rule:
    """The rule of most tests, with *changes*."""
    defaults: dict[str, Any] = {
        "owner": header("x-user"),
        "key": header("Idempotency-Key"),
        "amount_minor": json_field("amount"),
        "currency": json_field("currency"),
        "wait_seconds": 0.0,
    }
    return Rule("POST /pay", **{**defaults, **changes})


class Worlds:
    """Makes worlds, and closes them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def __call__(
        self,
        handler: Any = charging_handler,
        *rules: Rule,
        app: Any = None,
        till: Till | None = None,
        faulty: bool = False,
        wrap: type[FaultyStore] = FaultyStore,
        **options: Any,
    ) -> World:
        """A guarded shop, started. *handler* answers `POST /pay`, unless a whole *app* is given; *wrap* goes around a *faulty* store."""
        clock = ManualClock()
        memory = MemoryStore(clock=clock)
        store: Any = wrap(memory) if faulty else memory
        gateway = options.pop("gateway", None) or FakeGateway()
        guard = Guard(
            store,
            rules=rules or (rule(),),
            shop=SHOP,
            gateways=[gateway],
            secret=SECRET,
            keys=KEYS,
            duties=False,
            clock=clock,
            **options,
        )
        await self._stack.enter_async_context(guard)
        guarded = GuardMiddleware(app or Starlette(routes=[Route("/pay", handler, methods=["POST"])]), guard=guard)
        transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)
        client = await self._stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop.example"))
        return World(guard, client, clock, gateway, till or Till(), store, guarded)
