"""A real Chromium for page tests: found on the machine, kept offline, and watched for errors and broken promises.

    @pytest.mark.browser
    @pytest.mark.asyncio(loop_scope="session")
    async def test_x(serve, chromium):
        page = await chromium.page(width=360, scripts=False)
        await page.goto(serve("examples.shop:app").url)
        await assert_accessible(page)
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
WAIT_MILLISECONDS_MAX = 15_000  # for anything on a page
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SWITCHES = [
    "--no-sandbox",  # tests run as root in containers, on pages of our own
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # a page that needs others breaks here
]
_AXE = """async (rules) => {
    const found = await axe.run(document, {runOnly: {type: 'tag', values: rules}});
    return found.violations.map(rule => ({id: rule.id, help: rule.help, nodes: rule.nodes.map(node => node.html)}));
}"""


def chromium_path() -> Path | None:
    """The browser on this machine, if there is one."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    return Path(found) if found else None


@dataclass
class Chromium:
    """Makes pages, each in a context of its own, and keeps what went wrong on any of them.

    Attributes:
        faults: uncaught script errors, and everything that a Content-Security-Policy stopped.
    """

    browser: Browser
    faults: list[str] = field(default_factory=list)

    async def page(
        self,
        *,
        width: int = 1_280,
        height: int = 800,
        scripts: bool = True,
        colours: Literal["light", "dark"] = "light",
        locale: str = "en-GB",
        cookies_of: Page | None = None,
        **options: Any,
    ) -> Page:
        """A new page in a new context; *cookies_of* continues another page's visit."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": height},
            java_script_enabled=scripts,
            color_scheme=colours,
            locale=locale,
            storage_state=await cookies_of.context.storage_state() if cookies_of else None,
            **options,
        )
        context.set_default_timeout(WAIT_MILLISECONDS_MAX)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("console", self._hear)
        return page

    async def end(self) -> None:
        """Close every page: the next test finds a browser that has seen nothing."""
        for context in self.browser.contexts:
            await context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.faults.append(message.text)


@asynccontextmanager
async def browser_running(path: Path) -> AsyncIterator[Browser]:
    """The browser, and the driver that Playwright speaks to it through."""
    from playwright.async_api import async_playwright  # a third of a second, which other tests need not pay

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=SWITCHES)
        try:
            yield browser
        finally:
            await browser.close()


async def assert_accessible(page: Page) -> None:
    """No violation of WCAG 2.2 AA, or of axe-core's best practices, on the page as it is now."""
    await page.evaluate(_axe_source())
    violations = await page.evaluate(_AXE, AXE_RULES)
    assert not violations, "\n".join(f"{found['id']}: {found['help']}\n    " + "\n    ".join(found["nodes"]) for found in violations)


async def assert_fits(page: Page) -> None:
    """The page does not scroll sideways."""
    wide, seen = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= seen, f"the page is {wide} px wide, and {seen} px are seen"


@cache
def _axe_source() -> str:
    # Read as a file: the package's own module starts a browser driver of its own when imported.
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
