"""Fern & Co without the guard: its pages, its API, and what it does wrong on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cxguard.demo.crowd.understanding import hidden_fields
from cxguard.demo.shop import make_shop
from cxguard.demo.shop.books import BadOrder, Books, all_orders, read_order
from cxguard.demo.shop.catalogue import SHELF, price_text
from cxguard.testing.fake_gateway import Does, FakeGateway

ORDER = {"basket_id": "b", "amount_minor": "100", "currency": "EUR", "source": "tok_ok", "email": "a@b.example"}


@asynccontextmanager
async def visit(gateway: FakeGateway, folder: Path, *, accept: str = "text/html") -> AsyncIterator[httpx.AsyncClient]:
    app = make_shop(gateway, folder / "shop.db", guarded=False)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example", headers={"Accept": accept}) as client:
        yield client


async def fill(client: httpx.AsyncClient, product: str = "pilea") -> dict[str, str]:
    """Put a plant into the basket; returns the checkout form, filled in."""
    page = await client.get("/")
    await client.post("/basket", data={"csrf_token": hidden_fields(page.text)["csrf_token"], "product": product, "quantity": "2"})
    form = hidden_fields((await client.get("/checkout")).text)
    return form | {"email": "ann@example.org", "source": "tok_ok"}


@pytest.mark.asyncio
async def test_buying_through_the_pages(tmp_path: Path) -> None:
    """Plants, basket, checkout, thank-you page: without a script."""
    gateway = FakeGateway()
    async with visit(gateway, tmp_path) as client:
        answer = await client.post("/checkout/pay", data=await fill(client))
        assert (answer.status_code, answer.headers["location"]) == (303, "/orders/FC-1001")
        assert "is paid: EUR 25.80" in (await client.get("/orders/FC-1001")).text
        assert "FC-1001" in (await client.get("/orders")).text
        assert (await client.get("/checkout")).headers["location"] == "/basket"
    assert [payment.charge.amount_minor for payment in gateway.standing] == [2580]
    assert [order.payment_id for order in all_orders(tmp_path / "shop.db")] == ["pay_1"]


@pytest.mark.asyncio
async def test_order_page_is_for_its_owner(tmp_path: Path) -> None:
    """Another visitor does not see it."""
    async with visit(FakeGateway(), tmp_path) as client:
        await client.post("/checkout/pay", data=await fill(client))
        client.cookies.clear()
        assert (await client.get("/orders/FC-1001")).status_code == 404


@pytest.mark.asyncio
@pytest.mark.parametrize("does", [Does.DECLINE, Does.UNKNOWN, Does.CHARGE_THEN_UNKNOWN, Does.NOT_CHARGED])
async def test_unguarded_shop_calls_everything_a_decline(tmp_path: Path, does: Does) -> None:
    """One error for all that goes wrong: that is what the guard is for."""
    async with visit(FakeGateway(does), tmp_path) as client:
        answer = await client.post("/checkout/pay", data=await fill(client))
    assert answer.status_code == 402 and "Your card was declined" in answer.text and 'value="ann@example.org"' in answer.text


@pytest.mark.asyncio
async def test_unguarded_shop_charges_again_on_the_next_press(tmp_path: Path) -> None:
    """After a lost answer the retry has a new key, and charges a second time."""
    gateway = FakeGateway(Does.CHARGE_THEN_UNKNOWN)
    async with visit(gateway, tmp_path) as client:
        form = await fill(client)
        await client.post("/checkout/pay", data=form)
        assert (await client.post("/checkout/pay", data=form)).status_code == 303
    assert len(gateway.standing) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"csrf_token": "x"}, 403),
        ({"amount_minor": "1"}, 422),
        ({"amount_minor": ""}, 422),
        ({"currency": "USD"}, 422),
        ({"email": "nobody"}, 422),
        ({"source": ""}, 422),
        ({"basket_id": "another"}, 422),
    ],
)
async def test_wrong_form_charges_nothing(tmp_path: Path, changed: dict[str, str], status: int) -> None:
    """A stale, tampered or half-filled form gets a page that says so."""
    gateway = FakeGateway()
    async with visit(gateway, tmp_path) as client:
        answer = await client.post("/checkout/pay", data=await fill(client) | changed)
    assert answer.status_code == status and gateway.calls == []


@pytest.mark.asyncio
async def test_form_token_differs_by_rendering_and_belongs_to_the_visitor(tmp_path: Path) -> None:
    """As in real shops: byte-different bodies for one order, and no form of somebody else's."""
    async with visit(FakeGateway(), tmp_path) as client:
        form = await fill(client)
        again = hidden_fields((await client.get("/checkout")).text)
        assert form["csrf_token"] != again["csrf_token"] and form["basket_id"] == again["basket_id"]
        client.cookies.clear()
        assert (await client.post("/checkout/pay", data=form)).status_code == 403


@pytest.mark.asyncio
async def test_pages_are_safe_and_escaped(tmp_path: Path) -> None:
    """A strict policy, nothing cached, and what was typed is not markup."""
    async with visit(FakeGateway(), tmp_path) as client:
        answer = await client.get("/")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in answer.text
        assert all(product.name in answer.text for product in SHELF.values())
        assert (await client.get("/shop.css")).status_code == 200


@pytest.mark.asyncio
async def test_buying_through_the_api(tmp_path: Path) -> None:
    """Basket, checkout and orders as JSON."""
    async with visit(FakeGateway(), tmp_path, accept="application/json") as client:
        assert len((await client.get("/api/products")).json()) == len(SHELF)
        basket = (await client.put("/api/basket", json={"items": [{"product": "olive"}]})).json()
        order = {name: basket[name] for name in ("basket_id", "amount_minor", "currency")} | {"source": "tok_ok", "email": "a@b.example"}
        answer = await client.post("/api/checkout", json=order)
        assert (answer.status_code, answer.json()["status"], answer.json()["order"]) == (201, "paid", "FC-1001")
        assert [placed["number"] for placed in (await client.get("/api/orders")).json()] == ["FC-1001"]
        assert (await client.post("/api/checkout", json=order)).json()["message"] == "Your basket is empty."


@pytest.mark.asyncio
@pytest.mark.parametrize("does", [Does.DECLINE, Does.CHARGE_THEN_UNKNOWN])
async def test_api_calls_everything_a_decline(tmp_path: Path, does: Does) -> None:
    """The same mistake in JSON."""
    async with visit(FakeGateway(does), tmp_path, accept="application/json") as client:
        basket = (await client.put("/api/basket", json={"items": [{"product": "olive"}]})).json()
        answer = await client.post("/api/checkout", json=basket | {"source": "tok_ok", "email": "a@b.example"})
    assert (answer.status_code, answer.json()["status"]) == (402, "declined")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"items": []}', b'{"items": [{"product": "oak"}]}', b'{"items": [{"product": "olive", "quantity": 99}]}']
)
async def test_unreadable_basket_is_a_422(tmp_path: Path, body: bytes) -> None:
    """The API says what it wants."""
    async with visit(FakeGateway(), tmp_path) as client:
        answer = await client.put("/api/basket", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        answer = await client.put("/api/basket", content=body, headers={"Content-Type": "text/plain"})
        assert answer.json()["message"] == "Send application/json."


@pytest.mark.parametrize("missing", sorted(ORDER))
def test_order_needs_every_field(missing: str) -> None:
    """A field that is missing is a `BadOrder`."""
    fields: dict[str, Any] = {name: value for name, value in ORDER.items() if name != missing}
    with pytest.raises(BadOrder):
        read_order(fields)


def test_a_payment_buys_one_order(tmp_path: Path) -> None:
    """Writing the order of a payment again gives the same number."""
    books = Books(tmp_path / "shop.db")
    basket = books.put_in("ann", "olive", quantity=1)
    order = read_order(ORDER | {"basket_id": basket.id})
    assert books.write_order(order, "pay_1") == books.write_order(order, "pay_1") == "FC-1001"
    assert books.write_order(order, "pay_2") == "FC-1002"
    books.close()


@pytest.mark.parametrize(("amount_minor", "text"), [(5, "EUR 0.05"), (4999, "EUR 49.99"), (123456, "EUR 1,234.56")])
def test_price_text(amount_minor: int, text: str) -> None:
    """Amounts as people read them."""
    assert price_text(amount_minor) == text
