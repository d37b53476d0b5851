"""Fern & Co with the guard: the same handlers, and none of the mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxguard.demo.crowd.understanding import hidden_fields, understand_json, understand_page
from cxguard.demo.crowd.words import Word
from cxguard.demo.shop import make_shop
from cxguard.demo.shop.books import all_orders
from cxguard.testing.fake_gateway import Does, FakeGateway


@asynccontextmanager
async def living(app: Any) -> AsyncIterator[None]:
    """Run the app's lifespan, as a server does."""
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await life


@asynccontextmanager
async def visit(gateway: FakeGateway, folder: Path, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    app = make_shop(gateway, folder / "shop.db", guarded=True, guard_store="memory://")
    shown = {"Accept": "text/html", "Accept-Language": "en", **headers}
    async with (
        living(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://shop.example", headers=shown) as client,
    ):
        yield client


async def fill(client: httpx.AsyncClient) -> dict[str, str]:
    page = await client.get("/")
    await client.post("/basket", data={"csrf_token": hidden_fields(page.text)["csrf_token"], "product": "olive", "quantity": "1"})
    return hidden_fields((await client.get("/checkout")).text) | {"email": "ann@example.org", "source": "tok_ok"}


async def pay(client: httpx.AsyncClient, form: dict[str, str]) -> Any:
    answer = await client.post("/checkout/pay", data=form, follow_redirects=True)
    return understand_page(answer.status_code, answer.text, url=str(answer.url))


@pytest.mark.asyncio
async def test_healthy_gateway_changes_nothing_for_the_shopper(tmp_path: Path) -> None:
    """The guarded shop sells like the other one."""
    gateway = FakeGateway()
    async with visit(gateway, tmp_path) as client:
        assert (await pay(client, await fill(client))).word is Word.PAID
    assert [order.payment_id for order in all_orders(tmp_path / "shop.db")] == ["pay_1"]


@pytest.mark.asyncio
async def test_same_press_again_charges_nothing_more(tmp_path: Path) -> None:
    """A reload with a new form token is the same order."""
    gateway = FakeGateway()
    async with visit(gateway, tmp_path) as client:
        form = await fill(client)
        fresh = form | {"csrf_token": hidden_fields((await client.get("/checkout")).text)["csrf_token"]}
        assert (await pay(client, form)).word is Word.PAID
        assert (await pay(client, fresh)).word is Word.PAID
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_lost_answer_is_found_and_never_called_a_decline(tmp_path: Path) -> None:
    """Charged, then no answer: the guard asks the gateway, and the shopper hears that it is paid."""
    gateway = FakeGateway(Does.CHARGE_THEN_UNKNOWN)
    async with visit(gateway, tmp_path) as client:
        assert (await pay(client, await fill(client))).word is Word.PAID
    assert len(gateway.standing) == 1 and len(all_orders(tmp_path / "shop.db")) == 1


@pytest.mark.asyncio
async def test_decline_is_still_a_decline(tmp_path: Path) -> None:
    """What the bank said is told, and another card may pay for the same basket."""
    gateway = FakeGateway(Does.DECLINE)
    async with visit(gateway, tmp_path) as client:
        form = await fill(client)
        assert (await pay(client, form)).word is Word.DECLINED
        assert (await pay(client, form | {"source": "tok_ok_other"})).word is Word.PAID
    assert len(gateway.standing) == 1


@pytest.mark.asyncio
async def test_order_of_an_outage_is_kept_and_can_be_cancelled(tmp_path: Path) -> None:
    """The gateway refuses connections: the order is saved, nothing is charged, and the page's own form cancels it."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    async with visit(gateway, tmp_path) as client:
        kept = await pay(client, await fill(client))
        assert kept.word is Word.KEPT and kept.cancel_url
        answer = await client.post(kept.cancel_url, data=dict(kept.cancel_fields or {}), follow_redirects=True)
        assert understand_page(answer.status_code, answer.text, url=str(answer.url)).word is Word.CANCELLED
    assert gateway.standing == []


@pytest.mark.asyncio
async def test_app_follows_its_order(tmp_path: Path) -> None:
    """A client that knows 202 is told the same, with the address to follow."""
    gateway = FakeGateway(otherwise=Does.NOT_CHARGED)
    async with visit(gateway, tmp_path, Accept="application/json", Prefer="respond-async") as client:
        await client.get("/api/products")
        basket = (await client.put("/api/basket", json={"items": [{"product": "olive"}]})).json()
        order = {name: basket[name] for name in ("basket_id", "amount_minor", "currency")} | {"source": "tok_ok", "email": "a@b.example"}
        answer = await client.post("/api/checkout", json=order, headers={"Idempotency-Key": "one"})
        told = understand_json(answer.status_code, answer.content, url=str(answer.url))
        assert (answer.status_code, told.word) == (202, Word.KEPT)
        again = await client.get(told.follow_url)
        assert understand_json(again.status_code, again.content, url=str(again.url)).word is Word.KEPT


@pytest.mark.asyncio
async def test_the_button_says_what_happens_in_an_outage(tmp_path: Path) -> None:
    """Who presses it has read that the order may be kept and charged later."""
    async with visit(FakeGateway(), tmp_path) as client:
        await fill(client)
        assert "charge you once" in (await client.get("/checkout")).text
