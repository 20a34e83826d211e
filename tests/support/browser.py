"""A real browser: Chromium without a window, which records errors on its console and requests to elsewhere."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from tests.support.servers.errors import MissingServerError

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(slots=True)
class Tab:
    """A page in the browser, and what it must not have: errors on its console, and requests to another host."""

    page: Page
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    async def later(self, seconds: int) -> None:
        """Let the time of the page's timers pass at once."""
        await self.page.clock.run_for(1000 * seconds)

    async def violations(self) -> list[str]:
        """Return what axe-core finds wrong about accessibility."""
        results = await Axe().run(self.page)
        return [
            f"{violation['id']}: {node['html'][:120]}"
            for violation in results.response["violations"]
            for node in violation["nodes"]
        ]


def find_chromium() -> str:
    """Return the path of the browser. Raises `MissingServerError` if there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise MissingServerError("Chromium is not installed; see CONTRIBUTING.md for how to install it here")
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start the browser; close it at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


async def open_tab(browser: Browser, url: str, **options: Any) -> Tab:
    """Open an address in a tab of its own; `options` are those of a Playwright context, such as `viewport`.

    Requests to other hosts than that of the address count as foreign.
    """
    context = await browser.new_context(**options)
    tab = Tab(await context.new_page())
    host = urlsplit(url).netloc

    def logged(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            tab.errors.append(message.text)

    def requested(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != host:
            tab.foreign.append(request.url)

    tab.page.on("console", logged)
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("request", requested)
    await tab.page.clock.install()
    await tab.page.goto(url)
    return tab
