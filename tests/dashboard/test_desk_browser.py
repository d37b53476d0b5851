"""The desk in a real browser: fits, reads well for everyone, keeps what is typed, and breaks no promise of its policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from browsers import Chromium, assert_accessible, assert_fits
from servers import Serve, Server

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.server]
WIDTHS = (360, 768, 1_280, 1_920)


@pytest.fixture
def shop(serve: Serve) -> Server:
    return serve("desk_server:app")


async def signed_in(chromium: Chromium, shop: Server, **options: object) -> Page:
    """A page of somebody at the desk, at *Now*."""
    page = await chromium.page(**options)  # type: ignore[arg-type]
    await page.goto(f"{shop.url}/sign-in")
    return page


async def hostile_order(page: Page, shop: Server) -> str:
    """The address of the order whose every field holds a payload."""
    await page.goto(f"{shop.url}/ops/orders?state=held&money=charged")
    rows = page.locator("tbody tr", has_text="<script>")
    return f"{shop.url}{await rows.locator('a.ref').get_attribute('href')}"


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_every_page_is_for_everyone(chromium: Chromium, shop: Server, colours: str) -> None:
    """No accessibility violation on any page, in light and in dark, with every fold opened."""
    page = await signed_in(chromium, shop, colours=colours)
    hostile = await hostile_order(page, shop)
    others = (f"{shop.url}/ops/{name}" for name in ("", "orders", "next", "gateways", "orders/NONE"))
    for url in (*others, hostile):
        await page.goto(url)
        await page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        await assert_accessible(page)


async def test_no_page_scrolls_sideways(chromium: Chromium, shop: Server) -> None:
    """From a telephone to a wide screen every page fits, hostile content included."""
    for width in WIDTHS:
        page = await signed_in(chromium, shop, width=width)
        await assert_fits(page)
        for url in (f"{shop.url}/ops/orders", f"{shop.url}/ops/next", f"{shop.url}/ops/gateways", await hostile_order(page, shop)):
            await page.goto(url)
            await page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
            await assert_fits(page)
        await page.context.close()


async def test_hostile_content_runs_nothing(chromium: Chromium, shop: Server) -> None:
    """What a hostile client wrote into an order is shown as text: no dialog, no image, no script."""
    page = await signed_in(chromium, shop)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await page.goto(await hostile_order(page, shop))
    await page.wait_for_load_state("networkidle")
    assert await page.locator("img").count() == 0
    assert await page.locator("body script").count() == 0
    assert "onerror=alert(1)" in await page.inner_text("main")
    assert dialogs == []


@pytest.mark.parametrize("scripts", [True, False])
async def test_next_unknown_order_is_two_clicks_away(chromium: Chromium, shop: Server, scripts: bool) -> None:
    """From the first page: one click opens an unknown order, one more the next one. With and without scripts."""
    page = await signed_in(chromium, shop, scripts=scripts)
    await page.get_by_role("link", name="Open the next unknown order").click()
    first = await page.inner_text("h1")
    await page.get_by_role("link", name="Next unknown order").click()
    second = await page.inner_text("h1")
    assert re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){2}", first)
    assert first != second
    assert await page.locator(".headline .money-unknown").count() == 1


async def test_desk_works_without_scripts(chromium: Chromium, shop: Server) -> None:
    """Search, take, say, and cancel, by forms alone."""
    page = await signed_in(chromium, shop, scripts=False)
    await page.get_by_role("searchbox").fill("+44 7700 900123")
    await page.get_by_role("button", name="Find").click()
    await page.locator("a.ref").click()
    assert "paid, and the order is not placed" in await page.inner_text("main")
    await page.get_by_text("Take in hand").first.click()
    await page.locator("#why-take").fill("the shopper is on the phone")
    await page.get_by_role("button", name="Take in hand").click()
    assert "in your hands" in (await page.inner_text(".notice")).lower()
    await page.locator("summary", has_text="Mark as placed").click()
    await page.locator("#why-finish").fill("placed in the shop, number 1044")
    await page.get_by_role("button", name="Mark as placed").click()
    assert "It is closed" in await page.inner_text(".notice")


async def test_reason_is_asked_for_by_the_browser(chromium: Chromium, shop: Server) -> None:
    """A button without a reason sends nothing: the field is required."""
    page = await signed_in(chromium, shop)
    await page.goto(f"{shop.url}/ops/next")
    url = page.url
    await page.locator("summary", has_text="Cancel the order").click()
    await page.get_by_role("button", name="Cancel the order").click()
    assert await page.evaluate("document.activeElement.id") == "why-cancel"
    assert page.url == url


async def test_counters_follow_and_what_is_typed_stays(chromium: Chromium, shop: Server) -> None:
    """While somebody types and selects, the figures change by themselves; focus, words and selection stay as they were."""
    page = await signed_in(chromium, shop)
    other = await chromium.page(cookies_of=page)
    before = int(await page.inner_text("[data-live=unknown]"))
    search = page.get_by_role("searchbox")
    await search.fill("half a refer")
    await search.evaluate("field => field.setSelectionRange(2, 6)")
    await other.goto(f"{shop.url}/ops/next")
    await other.locator("#said-declined").check()
    await other.locator("#why-resolve").fill("their page says so")
    await other.get_by_role("button", name="Put it on record").click()
    await page.locator("[data-live=unknown]", has_text=str(before - 1)).wait_for()
    kept = await page.evaluate("(field => [document.activeElement === field, field.value, field.selectionStart, field.selectionEnd])(q)")
    assert kept == [True, "half a refer", 2, 6]
    assert f"({before - 1})" in await page.title()
    assert "The lists have changed" in await page.inner_text("#changed")


async def test_order_that_changes_says_so_and_keeps_the_words(chromium: Chromium, shop: Server) -> None:
    """Somebody else acts on the order that is open here: a line says it, and what is typed stays."""
    page = await signed_in(chromium, shop)
    await page.goto(f"{shop.url}/ops/next")
    other = await chromium.page(cookies_of=page)
    await other.goto(page.url)
    await page.locator("#why-resolve").fill("I am still wri")
    await other.locator("summary", has_text="Write a remark").click()
    await other.locator("#why-remark").fill("called, no answer")
    await other.get_by_role("button", name="Write a remark").click()
    await page.locator("#changed", has_text="has changed").wait_for()
    assert await page.locator("#why-resolve").input_value() == "I am still wri"
    await page.get_by_role("link", name="Show it as it is now").click()
    assert "called, no answer" in await page.inner_text(".timeline")


async def test_desk_that_stops_answering_is_said(chromium: Chromium, shop: Server) -> None:
    """When the server is gone, the page says that its figures may be old, instead of standing still."""
    page = await signed_in(chromium, shop)
    shop.kill()
    await page.locator("#changed", has_text="may be old").wait_for()


async def test_times_are_the_readers_own(chromium: Chromium, shop: Server) -> None:
    """Times stand in the reader's zone, which is named; without scripts they are in UTC."""
    page = await signed_in(chromium, shop, timezone_id="Asia/Tokyo")
    plain = await signed_in(chromium, shop, scripts=False)
    await page.locator("#zone", has_text="Asia/Tokyo").wait_for()
    assert await plain.inner_text("#zone") == "UTC"
    shown, utc = [await each.locator("time").first.inner_text() for each in (page, plain)]
    assert shown != utc


async def test_keyboard_reaches_everything(chromium: Chromium, shop: Server) -> None:
    """Tab goes from the skip link through the page, and what has the focus can be seen."""
    page = await signed_in(chromium, shop)
    names = []
    for _ in range(8):
        await page.keyboard.press("Tab")
        names.append(await page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", names
    assert names[0] == "To the content"
    assert {"Now", "Orders", "q", "Find", "Open the next unknown order"} <= set(names)
