"""The commands of the page "Your own data in five minutes" do what it says."""

import asyncio
import html
import re
import subprocess
from pathlib import Path

import aiohttp

from processor.counting.events import COUNTED
from tests.support import figures
from tests.support.github import SECRET, GitHub
from tests.support.processes import Launcher

PAGE = (Path(__file__).parents[2] / "docs/connecting.md").read_text("utf-8")


def commands(word: str) -> str:
    """Return the commands of the page that have this word."""
    blocks: list[str] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    return next(block for block in blocks if word in block)


async def test_the_delivery_that_is_signed_by_hand_is_counted_and_the_status_page_has_the_same_commands(
    github: GitHub, launcher: Launcher, tmp_path: Path
) -> None:
    secret = tmp_path / "data" / "webhook-secret"
    secret.parent.mkdir()
    secret.write_text(f"{SECRET}\n")
    standalone = launcher.start("standalone", "--data-dir", str(secret.parent), WEBHOOK_SECRET_FILE=str(secret))
    await standalone.ready()
    there = standalone.service_url.replace("127.0.0.1", "localhost")
    signed = commands("openssl").replace("http://localhost:8080", there)
    async with aiohttp.ClientSession() as client, client.get(standalone.admin_url) as answer:
        shown = html.unescape(await answer.text())
    assert signed.partition("\n")[2] in shown.replace("</code>", "\n")

    done = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", signed], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert "202 Accepted" in done.stdout, done
    counted = await github.drained(standalone, processed=1)
    assert figures.total(counted, "promgithub_push_total", repository="octo/hello") == 1


def test_the_forwarded_events_are_those_that_are_counted() -> None:
    found = re.search(r"--events=(\S+)", commands("gh webhook forward"))
    assert found is not None
    assert set(found[1].split(",")) == COUNTED
