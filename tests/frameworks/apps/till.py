"""Taking the money: by the guard, or by the shop's own client of the gateway that the guard does not see."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
from frameworks.apps.orders import CardDeclined, Order, Trouble

from cxguard import NotCharged, Outcome, Unknown, current_operation
from cxguard.gateways.http import HttpGateway

GATEWAY_URL = os.environ["GATEWAY_URL"]
FOLDER = Path(os.environ["SHOP_FOLDER"])
GATEWAY = HttpGateway("http:demo:test", GATEWAY_URL, settle_seconds=5.0)
PATIENCE_SECONDS = 1.0  # of the shop's own client; many times what a healthy gateway takes on a busy machine


async def by_guard(order: Order) -> str:
    """The guard charges."""
    return (await current_operation().charge(order.charge)).payment_id


def by_guard_in_thread(order: Order) -> str:
    """The guard charges, for a handler in a thread."""
    return current_operation().sync.charge(order.charge).payment_id


async def by_shop(order: Order) -> str:
    """The shop's own code charges, under the key that the guard made."""
    request = _request(order, current_operation().gateway_key("charge"))
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        return _payment(await client.send(request))


def by_shop_in_thread(order: Order) -> str:
    """As `by_shop`, with a client that blocks."""
    request = _request(order, current_operation().gateway_key("charge"))
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        return _payment(client.send(request))


def _request(order: Order, key: str) -> httpx.Request:
    (FOLDER / "sent" / key).touch()  # before it is sent, so that "never sent" can be told from "not found"
    charge = order.charge
    body = {"amount_minor": charge.amount_minor, "currency": charge.currency, "source": charge.source, "reference": charge.order_id}
    return httpx.Request("POST", f"{GATEWAY_URL}/payments", json=body, headers={"Idempotency-Key": key})


def _payment(answer: httpx.Response) -> str:
    if answer.status_code == 402:
        raise CardDeclined
    answer.raise_for_status()
    return str(answer.json()["id"])


async def ask(op: Any) -> Outcome:
    """The rule's `resolve`: what became of a charge by the shop's own code."""
    key = op.gateway_key("charge")
    outcome = await GATEWAY.find(key, timeout_seconds=0.5)
    if isinstance(outcome, Unknown) and not (FOLDER / "sent" / key).exists():
        return NotCharged("never sent")
    return outcome


async def place(op: Any) -> dict[str, str]:
    """The rule's `later`: an order that was kept, or is paid and not finished."""
    body = op.request.json()
    order = Order(body["cart"], body["amount"], body["currency"], body["card"])
    return {"cart": order.cart, "payment": (await op.charge(order.charge)).payment_id}


async def work_after(order: Order, trouble: str) -> None:
    """What a shop does after its answer: it takes until the test lets go (by writing into the pipe)."""
    await asyncio.to_thread(work_after_in_thread, order, trouble)


def work_after_in_thread(order: Order, trouble: str) -> None:
    """As `work_after`."""
    if trouble == Trouble.BACKGROUND_FAILS:
        raise RuntimeError("no mail server")
    (FOLDER / f"{order.cart}.pipe").read_bytes()
    (FOLDER / f"{order.cart}.mailed").touch()
