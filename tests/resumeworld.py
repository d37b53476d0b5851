"""A shop whose orders wait for their shopper, and how a shopper goes on with one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from shopworld import World, Worlds, rule
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cxguard.core.operation import Operation
from cxguard.core.outcomes import NeedsShopper, Outcome
from cxguard.engine.handle import current_operation
from cxguard.errors import PaymentDeclined
from cxguard.gateways.base import Charge
from cxguard.rules import Rule, json_field
from cxguard.stores.base import Query
from cxguard.testing.fake_gateway import Does, FakeGateway

ASYNC = {"prefer": "respond-async"}
JSON = {"accept": "application/json"}
PAGE = "https://shop.example/checkout?resume={token}"


class NoStepAtBank(FakeGateway):
    """A bank that wants the shopper, and names no page of its own for them."""

    async def charge(self, charge: Charge, *, key: str, timeout_seconds: float) -> Outcome:
        return self._bare(await super().charge(charge, key=key, timeout_seconds=timeout_seconds))

    async def find(self, key: str, *, timeout_seconds: float) -> Outcome:
        return self._bare(await super().find(key, timeout_seconds=timeout_seconds))

    def _bare(self, outcome: Outcome) -> Outcome:
        return replace(outcome, resume_url="") if isinstance(outcome, NeedsShopper) else outcome


async def place(op: Any) -> dict[str, str]:
    payment = await op.charge(Charge(op.amount_minor, op.currency, source=op.request.json()["card"]))
    return {"paid": payment.payment_id}


async def pay(request: Request) -> Response:
    body = await request.json()
    try:
        payment = await current_operation().charge(Charge(body["amount"], body["currency"], source=body["card"]))
    except PaymentDeclined:
        return JSONResponse({"declined": True}, status_code=402)
    return JSONResponse({"paid": payment.payment_id}, status_code=201)


def keeping(**changes: Any) -> Rule:
    asked = {"resume_at": PAGE, "resume_token": json_field("resume"), "later": place, "terms": "2026-11"}
    return rule(**{**asked, "key": json_field("cart"), **changes})


async def outage(world: Worlds, *, gateway: FakeGateway | None = None, heard: list[Any] | None = None, **changes: Any) -> World:
    """A shop whose gateway takes no connection."""
    gateway = gateway or FakeGateway()
    gateway.otherwise = Does.NOT_CHARGED
    return await world(pay, keeping(**changes), gateway=gateway, listeners=[heard.append] if heard is not None else [])


async def submit(shop: World, *, owner: str = "ann", **more: Any) -> httpx.Response:
    body = {"amount": 1000, "currency": "EUR", "cart": "c1", "card": "tok_ok", **more}
    return await shop.client.post("/pay", json=body, headers={"x-user": owner, **ASYNC})


async def only(shop: World) -> Operation:
    (operation,) = (await shop.store.search(Query(namespace="shop"))).operations
    return operation


async def recovered(shop: World, *, after_seconds: float = 60.0) -> Operation:
    shop.gateway.otherwise = Does.CHARGE
    shop.clock.advance(after_seconds)
    await shop.rest()
    return await only(shop)


async def status(shop: World, kept: httpx.Response) -> Any:
    return (await shop.client.get(kept.json()["status_url"], headers=JSON)).json()


async def late_decline(shop: World) -> tuple[httpx.Response, Operation]:
    """An order that was kept, and whose card the bank turned down when its turn came."""
    kept = await submit(shop)
    shop.gateway.will(Does.DECLINE)
    return kept, await recovered(shop)


async def token_of(shop: World, kept: httpx.Response) -> str:
    url = (await status(shop, kept))["resume_url"]
    assert url.startswith("https://shop.example/checkout?resume=")
    return parse_qs(urlsplit(url).query)["resume"][0]


def charged(shop: World) -> list[tuple[int, str]]:
    return [(payment.charge.amount_minor, payment.charge.source) for payment in shop.gateway.standing]
