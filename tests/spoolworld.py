"""A guarded shop with a spool, whose store can be taken away and brought back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
from shopworld import World, Worlds, charging_handler, rule

from cxguard.core.operation import Operation
from cxguard.engine.forwarding import Forwarded
from cxguard.engine.spool import Spool
from cxguard.engine.store_breaker import POLICY
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query
from cxguard.testing import Fault, FaultyStore

ASYNC = {"prefer": "respond-async"}
JSON = {"accept": "application/json"}


async def place(op: Any) -> dict[str, str]:
    """The rule's `later`."""
    body = op.request.json()
    payment = await op.charge(Charge(body["amount"], body["currency"], source="tok_ok", order_id=body["cart"]))
    return {"paid": payment.payment_id}


def keeping(**changes: Any) -> Any:
    """A rule that keeps orders."""
    return rule(**{"later": place, "terms": "2026-01", **changes})


class SpoolWorld:
    """One shop on one machine; `faulty` is the shared store."""

    def __init__(self, shop: World) -> None:
        self.shop = shop
        self.clock = shop.clock
        self.gateway = shop.gateway
        self.client = shop.client
        self.guard = shop.guard
        assert isinstance(shop.store, FaultyStore)
        self.faulty = shop.store

    @property
    def spool(self) -> Spool:
        assert self.guard.spool is not None
        return self.guard.spool

    def go_away(self, fault: Fault = Fault.NOT_DONE) -> None:
        """The store answers nobody any more."""
        self.faulty.decide = lambda verb: fault if verb != "stop" else None

    async def come_back(self) -> None:
        """The store answers again, and the breaker has seen it."""
        self.faulty.heal()
        assert self.guard.store_breaker is not None
        for _ in range(10):  # a probe that somebody else began before it was healed fails, and then another one is due
            self.clock.advance(POLICY.open_seconds_max)
            for _ in range(50):
                if await self.guard.store_breaker.probe_once():
                    return
                await asyncio.sleep(0)
        raise AssertionError("the store stays away")

    async def press(self, **changes: Any) -> httpx.Response:
        """One submit of a client that can be told."""
        return await self.shop.pay(**{**ASYNC, **changes})

    async def forward(self, *, rounds: int = 10) -> Forwarded:
        """Forward until nothing more moves."""
        done = Forwarded()
        for _ in range(rounds):
            done = await self.guard.forwarding().run_once()
            if not done.forwarded:
                return done
        return done

    async def rest(self, *, rounds: int = 3) -> None:
        """Forward, let leases lapse, and let the queue work, until all is at rest."""
        for _ in range(rounds):
            await self.forward()
            await self.shop.rest()
            self.clock.advance(61.0)
        await self.forward()
        await self.shop.rest()

    async def orders(self) -> tuple[Operation, ...]:
        """What the store has, looked at behind the breaker."""
        page = await self.faulty.store.search(Query(namespace="shop"))
        return page.operations

    async def waiting(self) -> tuple[Operation, ...]:
        """What the spool has."""
        page = await self.spool.store.search(Query(namespace="shop"))
        return page.operations

    async def page(self, answer: httpx.Response) -> dict[str, Any]:
        """What the order's status page says now."""
        told = (await self.client.get(answer.json()["status_url"], headers=JSON)).json()
        assert isinstance(told, dict)
        return told


async def spool_world(world: Worlds, folder: Path, *rules: Any, handler: Any = charging_handler, **options: Any) -> SpoolWorld:
    """A started shop with a spool in *folder*."""
    made = await world(handler, *(rules or (keeping(),)), faulty=True, spool=folder / "spool.db", **options)
    return SpoolWorld(made)
