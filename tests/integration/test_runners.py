"""The runners that GitHub's API lists, over real HTTP from a fake of it, on the leader's page."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from processor.counting.catalogue import EXPOSED
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runners_file import parse_runners
from processor.recovery.runner_lists import parse_runner_lists
from processor.recovery.runners import MOST_PAGES, VALID, AskRunners, RunnerGauge
from processor.scrape import Scrape
from shared.admin import exposition
from shared.brokers.spool import SpoolBroker
from shared.errors import BusyError, GitHubError, GitHubRefused, GitHubUnavailable
from shared.settings import SPOOL_MAX_BYTES, split_list
from tests.integration.test_recovery import client
from tests.support import builders, figures
from tests.support.fake_github import FakeGitHub
from tests.support.worker import HOLDER, Holder, Worker, worker

GPU = """
[[runner]]
class = "gpu"
labels = ["self-hosted", "gpu-*"]
"""
STATES = ("busy", "idle", "offline")

Shown = dict[tuple[str, str], tuple[float, ...]]
"""The number of runners in each of `STATES`, by class and group."""


class Elapsed:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Worker]:
    """Give a worker on SQLite: no runner is in the store."""
    async with worker(f"sqlite:///{tmp_path / 'store.sqlite3'}") as made:
        await made.snapshot()  # takes the lease
        yield made


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    """Give GitHub's API; it knows an organisation with two runner groups, and no runner."""
    async with FakeGitHub() as server:
        server.actions.runners["acme"] = []
        server.actions.runner_groups["acme"] = [{"id": 1, "name": "Default"}, {"id": 7, "name": "builders"}]
        yield server


class Leader:
    """A processor's page, and the chore that asks for the runners; it holds the lease as long as `lease.mine`."""

    def __init__(self, counting: Worker, directory: Path) -> None:
        self.elapsed = Elapsed()
        self.lease = Holder(counting.store, HOLDER)
        self.gauge = RunnerGauge(self.elapsed)
        broker = SpoolBroker(directory, 1000, 20, SPOOL_MAX_BYTES)
        self._scrape = Scrape(
            counting.store,
            self.lease,
            broker,
            counting.metrics,
            self.gauge,
            max_series=counting.max_series,
            catalogue=EXPOSED,
        )

    @asynccontextmanager
    async def asking(
        self, api: FakeGitHub, runners: str = "org:acme", rules: str = "", max_series: int = 10_000, **settings: Any
    ) -> AsyncIterator[AskRunners]:
        """Give what asks for the runners in a value of the setting, with one session."""
        classes = parse_runners(rules) if rules else RunnerClasses()
        async with client(api, **settings) as github:
            yield AskRunners(github, parse_runner_lists(split_list(runners)), classes, self.lease, max_series)

    async def asked(self, api: FakeGitHub, runners: str = "org:acme", **options: Any) -> Shown:
        """Ask once; return what the page shows then."""
        async with self.asking(api, runners, **options) as ask:
            await self.gauge.update(ask)
        return await self.shown()

    async def shown(self) -> Shown:
        page = figures.of_text(exposition.page(await self._scrape.page(), openmetrics=False).decode())
        found: dict[tuple[str, str], dict[str, float]] = {}
        for (name, labels), count in page.items():
            if name == "promgithub_runners":
                of = dict(labels)
                found.setdefault((of["runner_class"], of["runner_group"]), {})[of["state"]] = count
        return {kind: tuple(states[state] for state in STATES) for kind, states in found.items()}


@pytest.fixture
def leader(counting: Worker, tmp_path: Path) -> Leader:
    return Leader(counting, tmp_path)


async def test_runners_are_counted_by_class_group_and_state(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [
        builders.runner(1, "self-hosted", "Linux", "X64", busy=True, group=1),
        builders.runner(2, "self-hosted", "Linux", "X64", group=1),
        builders.runner(3, "self-hosted", "linux", "x64", group=7),
        builders.runner(4, "self-hosted", "GPU-a100", "Linux", busy=True, group=7),
        builders.runner(5, "self-hosted", "gpu-h100", status="offline", group=7),
        builders.runner(6, "self-hosted", "gpu-h100", status="offline", busy=True, group=7),
        builders.runner(7, "self-hosted", group=99),
    ]
    assert await leader.asked(api, rules=GPU) == {
        ("linux,x64", "Default"): (1, 1, 0),
        ("linux,x64", "builders"): (0, 1, 0),
        ("gpu", "builders"): (1, 0, 2),
        ("self-hosted", "unknown"): (0, 1, 0),
    }


async def test_the_runners_of_organisations_and_repositories_add_up(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(1, "self-hosted", "arm", group=1)]
    api.actions.runners["acme/gears"] = [builders.runner(1, "self-hosted", "arm", busy=True)]
    assert await leader.asked(api, "org:acme, repo:acme/gears, org:ACME, repo:acme/gears") == {
        ("arm", "Default"): (1, 1, 0)
    }


async def test_every_page_of_a_list_counts_and_a_runner_on_two_pages_counts_once(
    api: FakeGitHub, leader: Leader
) -> None:
    api.actions.runners["acme"] = [builders.runner(n, "self-hosted", "arm", group=1) for n in (*range(1, 250), 99)]
    api.actions.runner_groups["acme"] = [{"id": n, "name": f"group {n}"} for n in range(200, 0, -1)]
    assert await leader.asked(api) == {("arm", "group 1"): (0, 249, 0)}
    assert api.requests["GET runners"] == 3


async def test_a_list_without_an_end_is_refused_and_not_counted_in_part(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(n, "self-hosted", group=1) for n in range(MOST_PAGES * 100 + 1)]
    with pytest.raises(GitHubUnavailable, match=f"/orgs/acme/.* over {MOST_PAGES} pages"):
        await leader.asked(api)
    assert await leader.shown() == {}


async def test_runners_that_are_gone_leave_no_series(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(1, "self-hosted", "once-1", group=1)]
    assert await leader.asked(api) == {("once-1", "Default"): (0, 1, 0)}
    api.actions.runners["acme"] = [builders.runner(2, "self-hosted", "once-2", busy=True, group=1)]
    assert await leader.asked(api) == {("once-2", "Default"): (1, 0, 0)}
    api.actions.runners["acme"] = []
    assert await leader.asked(api) == {}


async def test_a_list_that_has_not_changed_costs_nothing_of_the_limit(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(n, "self-hosted", "arm", group=1) for n in range(150)]
    async with leader.asking(api) as ask:
        await leader.gauge.update(ask)
        used = api.used
        await leader.gauge.update(ask)
        assert api.used == used
        assert await leader.shown() == {("arm", "Default"): (0, 150, 0)}
        api.actions.runners["acme"][149]["busy"] = True
        await leader.gauge.update(ask)
        assert api.used == used + 1
    assert await leader.shown() == {("arm", "Default"): (1, 149, 0)}


@pytest.mark.parametrize("failing", ["/acme/actions/runners", "/acme/actions/runner-groups", "/gears/actions/runners"])
async def test_after_failures_the_last_full_answer_is_shown_for_five_minutes_and_then_nothing(
    api: FakeGitHub, leader: Leader, failing: str
) -> None:
    both = "org:acme,repo:acme/gears"
    api.actions.runners["acme"] = api.actions.runners["acme/gears"] = [
        builders.runner(1, "self-hosted", "arm", group=1)
    ]
    assert await leader.asked(api, both) == {("arm", "Default"): (0, 2, 0)}
    api.broken.add(failing)
    api.actions.runners["acme"] = []
    leader.elapsed.now += VALID
    with pytest.raises(GitHubUnavailable, match=re.escape(failing)):
        await leader.asked(api, both)
    assert await leader.shown() == {("arm", "Default"): (0, 2, 0)}
    leader.elapsed.now += 1
    assert await leader.shown() == {}
    api.broken.clear()
    assert await leader.asked(api, both) == {("arm", "Default"): (0, 1, 0)}


async def test_a_processor_without_the_lease_neither_shows_nor_asks(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(1, "self-hosted", "arm", group=1)]
    assert await leader.asked(api) != {}
    leader.lease.mine = False
    assert await leader.shown() == {}
    asked = len(api.asked)
    with pytest.raises(BusyError):
        await leader.asked(api)
    assert len(api.asked) == asked


@pytest.mark.parametrize(
    ("runners", "permission"),
    [("org:acme", "Self-hosted runners: read"), ("repo:acme/gears", "Administration: read")],
)
async def test_a_missing_permission_names_the_one_that_is_needed(
    api: FakeGitHub, leader: Leader, runners: str, permission: str
) -> None:
    api.forbidden.add("/actions/runners")
    with pytest.raises(GitHubRefused, match=permission):
        await leader.asked(api, runners)


async def test_an_organisation_without_a_list_of_groups_has_unknown_groups(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(1, "self-hosted", "arm", group=1)]
    del api.actions.runner_groups["acme"]
    assert await leader.asked(api) == {("arm", "unknown"): (0, 1, 0)}


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"runners": null}', b'{"runners": [{"id": "one"}]}', b'{"runners": [7]}']
)
async def test_an_answer_of_another_form_is_an_error_and_not_an_empty_list(
    api: FakeGitHub, leader: Leader, body: bytes
) -> None:
    api.actions.runners["acme"] = [builders.runner(1, "self-hosted", "arm", group=1)]
    async with leader.asking(api) as ask:
        await leader.gauge.update(ask)
        api.proxied.append((200, body, {"Content-Type": "application/json; charset=utf-8"}))
        with pytest.raises(GitHubError, match="documented form"):
            await leader.gauge.update(ask)
    assert await leader.shown() == {("arm", "Default"): (0, 1, 0)}


async def test_labels_beyond_the_maximum_of_series_are_counted_together(api: FakeGitHub, leader: Leader) -> None:
    api.actions.runners["acme"] = [builders.runner(n, "self-hosted", f"l{n}", busy=n == 4, group=1) for n in range(5)]
    assert await leader.asked(api, max_series=7) == {
        ("l0", "Default"): (0, 1, 0),
        ("l1", "Default"): (0, 1, 0),
        ("__overflow__", "__overflow__"): (1, 2, 0),
    }
