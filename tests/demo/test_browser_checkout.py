"""A real browser without scripts goes through the guarded demo shop while payments do not work, and gets what it came for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsers import Chromium, assert_fits

from cxguard.demo.processes import Child
from cxguard.demo.run import gateway_process, read_ledger, set_control, shop_process
from cxguard.demo.shop.books import all_orders

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.server]
END_MILLISECONDS_MAX = 60_000  # the second try comes within seconds, and the page reloads itself every few


@asynccontextmanager
async def in_an_outage(folder: Path, **control: object) -> AsyncIterator[tuple[Child, Child]]:
    """A gateway that is broken from the start, and the guarded shop."""
    async with gateway_process(folder) as gateway, shop_process(gateway, guarded=True, folder=folder) as shop:
        await set_control(gateway, control)
        yield gateway, shop


async def press_pay(page: Page, shop: Child) -> None:
    """From the catalogue to the button, as a visitor goes."""
    await page.goto(shop.url)
    await page.get_by_role("button").first.click()
    await page.get_by_role("link", name="checkout").first.click()
    await page.get_by_label("E-mail").fill("ann@example.org")
    await page.get_by_role("button", name="Pay").click()


@pytest.mark.parametrize(
    ("control", "first_word"),
    [
        ({"mode": "refuse"}, "You have not been charged yet"),
        ({"mode": "time_out_after", "lookups_too": True}, "Your payment is being checked"),
    ],
)
async def test_checkout_in_an_outage_is_followed_to_paid(
    control: dict[str, object], first_word: str, chromium: Chromium, tmp_path: Path
) -> None:
    """The page says what is true, reloads itself, and says "paid" when it is: one charge, one order, no script."""
    async with in_an_outage(tmp_path, **control) as (gateway, shop):
        page = await chromium.page(width=360, scripts=False)
        await press_pay(page, shop)
        await page.get_by_role("heading", name=first_word).wait_for()
        await assert_fits(page)
        assert "/_cxguard/orders/" in page.url
        await set_control(gateway, {"mode": "healthy"})
        await page.get_by_role("heading", name="placed and paid").wait_for(timeout=END_MILLISECONDS_MAX)
        await page.goto(f"{shop.url}/orders")
        assert await page.get_by_text("FC-1001").count() == 1
        payments = (await read_ledger(gateway))["payments"]
        assert [payment["id"] for payment in payments] == [order.payment_id for order in all_orders(tmp_path / "shop.db")]
        assert len(payments) == 1
