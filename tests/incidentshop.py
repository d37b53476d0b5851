"""A shop as real ones are: it charges, writes an order, takes from its stock and sends a mail, and each of these may fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from shopworld import World
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import Operation
from cxguard.engine.handle import current_operation
from cxguard.gateways.base import Charge
from cxguard.stores.base import Query

ASYNC = {"prefer": "respond-async"}
HTML = {"accept": "text/html"}


class ShopError(Exception):
    """Something in the shop's own code went wrong."""


@dataclass
class Books:
    """The shop's own tables. `failing[what]` says how often the next ones of that kind fail."""

    orders: list[str] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    stock: int = 1_000
    failing: Counter[str] = field(default_factory=Counter)

    async def place(self, cart: str, payment: str) -> str:
        self._fail("order")
        self.orders.append(cart)
        return f"order {len(self.orders)} paid by {payment}"

    async def send_mail(self, order: str) -> str:
        self._fail("mail")
        self.mails.append(order)
        return order

    async def reserve(self) -> int:
        if self.stock == 0:
            raise ShopError("out of stock")
        self.stock -= 1
        return self.stock

    def _fail(self, what: str) -> None:
        if self.failing[what] > 0:
            self.failing[what] -= 1
            raise ShopError(f"the {what} could not be written")

    async def complete(self, op: Any, body: dict[str, Any], *, source: str = "tok_ok") -> dict[str, str]:
        """What such a shop does at the end of its checkout."""
        payment = await op.charge(Charge(body["amount"], body["currency"], source=body.get("card", source), order_id=body["cart"]))
        order = await op.step("order", self.place, body["cart"], payment.payment_id, repeatable=True)
        await op.step("mail", self.send_mail, order, repeatable=True)
        return {"order": order}

    async def handler(self, request: Request) -> Response:
        return JSONResponse(await self.complete(current_operation(), await request.json()), status_code=201)

    async def later(self, op: Any) -> dict[str, str]:
        return await self.complete(op, op.request.json())


async def only(shop: World) -> Operation:
    """The one record that there is."""
    page = await shop.store.search(Query(namespace="shop"))
    assert len(page.operations) == 1
    return page.operations[0]


async def settle(shop: World, *, rounds: int = 12, seconds: float = 120.0) -> None:
    """Let time pass and the queue work, until everything has come to rest."""
    for _ in range(rounds):
        shop.clock.advance(seconds)
        await shop.rest()


async def charge_key(shop: World) -> str:
    """The gateway key of the last charge that was sent."""
    return (await only(shop)).sends[-1].key


async def when_hanging(shop: World, submit: Any) -> asyncio.Task[Any]:
    """Start a submit and wait until the gateway has it."""
    task = asyncio.ensure_future(submit)
    await shop.gateway.until_hanging()
    return task
