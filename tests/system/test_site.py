"""The documentation as a site, which works from the file system: without a server, and without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from playwright.async_api import expect

from tests.support.browser import chromium, open_tab
from tests.support.deployment import ROOT

SOON = 15_000
"""How long the page has to show something, in milliseconds."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the directory of the site, built as `make site` does."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", directory],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


async def test_a_page_shows_its_diagram_and_is_searched_without_a_server_or_a_request_to_elsewhere(site: Path) -> None:
    async with chromium() as browser:
        tab = await open_tab(browser, (site / "index.html").as_uri())
        diagram = tab.page.locator("img[src='pictures/overview.svg']")
        assert await diagram.evaluate("picture => picture.naturalWidth") > 0

        await tab.page.locator("input[name=query]").fill("flaky jobs")
        found = tab.page.locator(".md-search-result__link", has_text=re.compile("flaky", re.IGNORECASE))
        await expect(found.first).to_be_visible(timeout=SOON)
        await found.first.click()
        await expect(tab.page.locator("h1")).not_to_have_text(re.compile("From nothing"), timeout=SOON)
    assert not tab.errors
    assert not tab.foreign


def test_the_runbook_of_the_site_has_the_section_of_every_alert(site: Path) -> None:
    rules = (ROOT / "deploy/prometheus/alerts.rules.yml").read_text("utf-8")
    anchors = {
        rule["annotations"]["runbook_url"].rpartition("#")[2]
        for group in yaml.safe_load(rules)["groups"]
        for rule in group["rules"]
    }
    assert anchors
    assert anchors <= set(re.findall(r'id="([^"]+)"', (site / "runbook.html").read_text("utf-8")))
