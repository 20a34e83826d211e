"""The command backfills a running promgithub, also if it is killed."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery
from tests.support import figures
from tests.support.builders import START
from tests.support.fake_github import TOKEN, FakeGitHub
from tests.support.figures import Figures
from tests.support.github import SECRET, GitHub, until
from tests.support.past_files import counters, last_values, summed
from tests.support.processes import Launcher, Process

HOST = "127.0.0.1"
"""The host of this GitHub's API, and so of its repositories."""


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


async def test_a_killed_backfill_goes_on_and_every_run_counts_once_before_and_after_its_deliveries(
    api: FakeGitHub, launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    history = Historian(8, START.timestamp()).history(200)
    api.actions.knows(msgspec.json.decode(one.body) for one in history.deliveries)
    api.actions.environments = [
        {"id": 1, "name": "production", "protection_rules": [{"id": 1, "type": "required_reviewers"}]}
    ]
    api.limit = 30  # less than the backfill needs: it has to wait for the next hour
    data, file = str(tmp_path / "data"), tmp_path / "past.txt"
    standalone = launcher.start("standalone", "--data-dir", data, WEBHOOK_SECRET=SECRET, GITHUB_HOST=HOST, GRACE="2s")
    await standalone.ready()
    early = [one for one in history.deliveries if _repository(one) in {"acme/gears", "acme/cogs"}]
    assert await github.send_all(standalone, early) == {202: len(early)}

    def backfill() -> Process:
        reached = {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN}
        arguments = ("--since", "7d", "--output", str(file), "--data-dir", data)
        return launcher.start("backfill", *sorted(api.actions.repositories), *arguments, **reached)

    first = backfill()
    await first.says("the budget for GitHub's API is used up")
    assert api.used <= api.limit / 2
    await first.kill()
    assert not file.exists()
    api.limit, api.used = 5000, 0
    with closing(sqlite3.connect(tmp_path / "data" / "promgithub.db", timeout=10)) as store, store:
        store.execute("UPDATE leases SET expires_at = 0 WHERE name = 'backfill'")  # as after ten seconds
    assert await backfill().ended(within=60) == 0
    assert await github.send_all(standalone, history.deliveries) == {202: len(history.deliveries)}

    truth, past = counters(history.truth.settled), last_values(file)
    assert past
    counted: Figures = {}

    async def is_true() -> bool | None:
        nonlocal counted
        page = counters(figures.of_ci(await github.figures(standalone)))
        live = {sample: value for sample, value in page.items() if not sample[0].startswith("promgithub_stale")}
        counted = summed(live, past)
        return counted == truth or None

    with suppress(TimeoutError):
        await until(is_true, 30)
    figures.assert_equal(counted, truth)


def _repository(delivery: Delivery) -> str:
    name: str = msgspec.json.decode(delivery.body)["repository"]["full_name"]
    return name
