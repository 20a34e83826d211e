"""`promgithub connect` in a real browser: from the local page over GitHub's to an App that promgithub uses."""

import asyncio
import os
import re
import shlex
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from processor.counting.events import COUNTED
from processor.recovery.app_manifest import EVENT_PERMISSIONS, LONGEST_NAME, app_name
from promgithub.commands.connect_page import ConnectPage
from shared.errors import SetupError
from tests.support import builders
from tests.support.browser import chromium, open_tab
from tests.support.fake_github import FakeGitHub
from tests.support.github import GitHub
from tests.support.processes import PROMGITHUB, Launcher, Process

URL = "https://ci.example.com/webhook"

SOON = 15_000
"""How long the browser may take to show a page, in milliseconds."""


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


async def page_of(process: Process) -> str:
    """Return the address that `promgithub connect` prints."""
    await process.says("http://127.0.0.1:")
    found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}", process.log)
    assert found is not None
    return found[0]


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return answer.status, await answer.text()


def settings_in(file: Path) -> dict[str, str]:
    """Return the settings that a shell reads from the file, without their prefix."""
    pairs = (shlex.split(line)[0].split("=", 1) for line in file.read_text().splitlines())
    return {name.removeprefix("PROMGITHUB_"): value for name, value in pairs}


async def test_one_click_registers_an_app_whose_deliveries_are_counted(
    api: FakeGitHub, github: GitHub, launcher: Launcher, tmp_path: Path
) -> None:
    directory = tmp_path / "the app"
    options = ("--url", URL, "--org", "acme", "--dir", str(directory))
    connecting = launcher.start("connect", *options, GITHUB_API_URL=api.url)
    address = await page_of(connecting)
    async with chromium() as browser:
        tab = await open_tab(browser, address)
        policy = (await tab.page.request.get(address)).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert f"script-src 'none'; connect-src 'self'; img-src data:; form-action {api.url};" in policy
        await expect(tab.page.get_by_text("the organisation acme")).to_be_visible()
        assert await tab.violations() == []
        assert (tab.errors, tab.foreign) == ([], [])
        await tab.page.get_by_role("button", name="Create the App on GitHub").click()
        await tab.page.get_by_role("button", name="Create GitHub App").click(timeout=SOON)
        link = tab.page.get_by_role("link", name="install the App")
        assert await link.get_attribute("href", timeout=SOON) == f"{api.url}/apps/promgithub-acme/installations/new"
        assert await tab.violations() == []
        assert tab.errors == []
        assert all(one.startswith(api.url) for one in tab.foreign)
    assert await connecting.ended(20) == 0

    app = api.apps.app
    assert app is not None
    assert app["permissions"] == {"actions": "read", "contents": "read", "metadata": "read", "pull_requests": "read"}
    assert app["events"] == sorted(COUNTED)
    assert api.apps.hook["url"] == URL
    assert f"Install the App and choose its repositories:  {api.url}/apps/promgithub-acme/" in connecting.log
    files = {file.name: file for file in directory.iterdir()}
    assert sorted(files) == ["github-app.pem", "promgithub.env", "webhook-secret"]
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    for secret in (app["pem"], app["webhook_secret"], app["client_secret"]):
        assert secret not in connecting.log

    settings = settings_in(files["promgithub.env"])
    standalone = launcher.start("standalone", "--data-dir", str(tmp_path / "data"), **settings)
    await standalone.ready()
    delivery = builders.delivery(builders.push(1), builders.guid(1))
    assert await github.send(standalone, delivery, secret=app["webhook_secret"]) == 202
    api.deliveries.succeeded(delivery, time.time())
    script = f"set -a; . {shlex.quote(str(files['promgithub.env']))}; set +a; {PROMGITHUB} hooks check app"
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        f"app: all is well: {URL}, {len(COUNTED)} events; latest deliveries: the newest one (push"
    )


async def test_only_the_page_that_was_opened_can_bring_a_code(
    api: FakeGitHub, launcher: Launcher, tmp_path: Path
) -> None:
    connecting = launcher.start("connect", "--url", URL, "--dir", str(tmp_path / "app"), GITHUB_API_URL=api.url)
    address = await page_of(connecting)
    place = address.rpartition("/")[0]
    assert (await get(f"{place}/"))[0] == 404
    status, page = await get(address)
    assert (status, "promgithub-" in page) == (200, True)
    found = re.search(r"state=([\w-]+)", page)
    assert found is not None
    for query, expected in {"code=abc": 403, "code=abc&state=wrong": 403, f"code=a/b&state={found[1]}": 400}.items():
        assert (await get(f"{place}/created?{query}"))[0] == expected
    assert api.requests == {}
    status, page = await get(f"{place}/created?code=expired&state={found[1]}")
    assert (status, "needs a code that GitHub gave within the last hour" in page) == (502, True)
    assert await connecting.ended(20) == 1
    assert f"delete it at {api.url}/settings/apps, and start again" in connecting.log
    assert "expired" not in connecting.log
    assert list((tmp_path / "app").iterdir()) == []


async def test_files_that_exist_are_kept_and_no_app_is_registered(launcher: Launcher, tmp_path: Path) -> None:
    existing = tmp_path / "github-app.pem"
    existing.write_text("a key")
    connecting = launcher.start("connect", "--url", URL, "--dir", str(tmp_path))
    assert await connecting.ended(20) == 2
    assert (
        f"{existing}: exists already, and is not overwritten; move it away, or choose another --dir" in connecting.log
    )
    assert existing.read_text() == "a key"


async def test_the_page_is_served_for_a_bounded_time() -> None:
    async def never(_code: str) -> None:
        raise AssertionError

    page = ConnectPage("https://github.com", None, lambda _: {}, never)  # type: ignore[arg-type]
    await page.start()
    with pytest.raises(SetupError, match="GitHub has registered no App within 1s; start again"):
        await page.code_taken(timedelta(seconds=1))
    await page.close()


async def test_a_signal_stops_it_and_nothing_is_left(api: FakeGitHub, launcher: Launcher, tmp_path: Path) -> None:
    connecting = launcher.start("connect", "--url", URL, "--dir", str(tmp_path / "app"), GITHUB_API_URL=api.url)
    await page_of(connecting)
    assert await connecting.terminate() == 1
    assert "promgithub: stopped; no App was registered" in connecting.log
    assert os.listdir(tmp_path / "app") == []


def test_an_app_may_read_what_its_events_need_and_has_a_short_name() -> None:
    assert EVENT_PERMISSIONS.keys() == COUNTED
    assert len(app_name("o" * 39)) == LONGEST_NAME
