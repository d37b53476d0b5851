"""The pages in a real browser: readable by everyone, at any width, live with scripts and complete without."""

from __future__ import annotations

import httpx
import pytest
from browsers import Chromium, assert_accessible, assert_fits
from servers import Serve
from shown_orders import ANSWERS, ORDERS

pytestmark = [pytest.mark.browser, pytest.mark.server]
APP = "tests.shown_orders:app"


async def change(url: str, to: str) -> None:
    """Let the order at *url* become another one."""
    async with httpx.AsyncClient() as client:
        await client.put(f"{url}/{to}")


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="session")
async def test_every_page_is_accessible_and_fits(serve: Serve, chromium: Chromium) -> None:
    """No violation of WCAG 2.2 AA and no sideways scroll, at 360 and 1,280 px, light and dark."""
    url = serve(APP).url
    for width, colours, locale in ((360, "light", "de-DE"), (360, "dark", "fr-FR"), (1280, "light", "en-GB"), (1280, "dark", "en-GB")):
        page = await chromium.page(width=width, colours=colours, locale=locale)
        for name in (*ORDERS, *ANSWERS):
            await page.goto(f"{url}/{name}")
            await assert_fits(page)
            await assert_accessible(page)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_follows_the_order(serve: Serve, chromium: Chromium) -> None:
    """When the order changes, the page says so by itself: words, money, title and colour."""
    url = serve(APP).url
    page = await chromium.page()
    await page.goto(f"{url}/unknown")
    assert await page.inner_text("h1") == "Your payment is being checked"
    await change(f"{url}/unknown", "placed")
    await page.wait_for_selector("text=Paid: €49.99")
    assert await page.inner_text("h1") == "Your order is placed and paid"
    assert "placed and paid" in await page.title()
    assert await page.locator("body.tone-good").count() == 1
    assert await page.locator("details").count() == 0
    assert await page.locator('[role="status"] h1').count() == 1


@pytest.mark.asyncio(loop_scope="session")
async def test_what_one_is_typing_stays(serve: Serve, chromium: Chromium) -> None:
    """A change of the order leaves an opened question, its words and an opened "cancel" alone."""
    url = serve(APP).url
    page = await chromium.page()
    await page.goto(f"{url}/saying")
    await page.fill("textarea", "I saw an error page")
    await page.click("summary")
    await change(f"{url}/saying", "held")
    await page.wait_for_selector("text=A person is looking at your order")
    assert await page.input_value("textarea") == "I saw an error page"
    assert await page.is_visible("text=Yes, cancel it")


@pytest.mark.asyncio(loop_scope="session")
async def test_times_are_the_readers_own(serve: Serve, chromium: Chromium) -> None:
    """With scripts, a time is shown in the reader's zone, in the text and beside it."""
    url = serve(APP).url
    page = await chromium.page(timezone_id="Asia/Kolkata")
    await page.goto(f"{url}/kept")
    await page.wait_for_function("[...document.querySelectorAll('time')].every(time => !time.textContent.includes('UTC'))")
    assert {text.rpartition("at ")[2] for text in await page.locator("time").all_inner_texts()} == {"05:00"}


@pytest.mark.asyncio(loop_scope="session")
async def test_without_scripts_everything_is_there(serve: Serve, chromium: Chromium) -> None:
    """The page reloads itself to the new state, and cancelling and telling are plain forms."""
    url = serve(APP).url
    page = await chromium.page(scripts=False)
    await page.goto(f"{url}/kept")
    await page.click("summary")
    await page.click("text=Yes, cancel it")
    assert "/kept/cancel" in await page.inner_text("body")
    await page.goto(f"{url}/saying")
    await page.check("text=I saw an error")
    await page.fill("textarea", "Oh")
    await page.click("text=Send")
    assert "/saying/say what=error&words=Oh" in await page.inner_text("body")
    await page.goto(f"{url}/in_flight")
    await change(f"{url}/in_flight", "placed")
    await page.wait_for_selector("text=Paid: €49.99")


@pytest.mark.asyncio(loop_scope="session")
async def test_buying_once_more_sends_the_form_again(serve: Serve, chromium: Chromium) -> None:
    """The button posts what was posted, and the confirmation."""
    url = serve(APP).url
    page = await chromium.page(scripts=False)
    await page.goto(f"{url}/duplicate")
    await page.click("text=Yes, buy the same once more")
    assert "basket=b%3C1%3E&basket=b2&cxguard_confirm_duplicate=7K4M-Q2XN-8PHD" in await page.inner_text("body")
