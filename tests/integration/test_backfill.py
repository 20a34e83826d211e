"""A backfill reads the past from a fake GitHub API over real HTTP, on each kind of store."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from processor.counting.catalogue import EXPOSED
from processor.counting.exemplars import exemplars
from processor.policy import policy_of
from processor.recovery.backfill import Backfilled
from processor.recovery.client import GitHub
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.service import PastFile, Recovery, RecoveryContext
from processor.store.tables import backfills, hourly
from promgithub.simulation.histories import Historian, History
from promgithub.simulation.truth import sample_of
from shared.delivery import Delivery
from shared.errors import GitHubUnavailable
from shared.settings import ProcessorSettings, Url
from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.figures import Figures, assert_equal
from tests.support.past_files import counters, last_values, summed
from tests.support.servers.postgres import fresh_database
from tests.support.servers.prometheus import PrometheusServer
from tests.support.worker import Worker, worker

DAYS_AGO = 864_000
"""How long ago the histories of these tests happened, in seconds."""

HOUR = 3600
DAY = 86_400

OF_JOB = {"repository": "acme/gears", "branch": "main", "workflow_name": "build", "job_conclusion": "failure"}

ENDS = "promgithub_workflow_duration_seconds_count"

DEFAULT_BRANCHES = ProcessorSettings().branches

HOST = "127.0.0.1"
"""The host of this GitHub's API, and so of its repositories."""


class Queue:
    """A publisher whose deliveries are counted at once."""

    def __init__(self, counting: Worker) -> None:
        self._counting = counting
        self.available = True

    async def ready_within(self, seconds: float) -> bool:
        return True

    async def publish(self, delivery: Delivery) -> None:
        await self._counting.count([delivery])


@pytest_asyncio.fixture
async def counting(store_url: str) -> AsyncIterator[Worker]:
    """Give a worker of the installation that has this API, on each kind of database in turn."""
    async with worker(store_url, branches=DEFAULT_BRANCHES, home=HOST) as made:
        yield made


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


@asynccontextmanager
async def recovery(api: FakeGitHub, counting: Worker, **settings: Any) -> AsyncIterator[Recovery]:
    given: dict[str, Any] = {"github_api_url": Url(api.url), "github_token": TOKEN}
    own = ProcessorSettings(**(given | settings))

    async def no_sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    async with GitHub(own, RecoveryMetrics(CollectorRegistry()), time.time, no_sleep) as github:
        context = RecoveryContext(own, policy_of(own), counting.store, Queue(counting), "me")
        yield Recovery(context, github)


def past_file(tmp_path: Path, name: str = "past.txt", max_series: int = 10_000) -> PastFile:
    return PastFile(tmp_path / name, EXPOSED, max_series)


async def backfill(
    api: FakeGitHub,
    counting: Worker,
    file: PastFile,
    repositories: Sequence[str] = (),
    *,
    days: float = 30,
    hooks: str = HOOK,
    progress: Callable[[Backfilled], None] = lambda _: None,
    **settings: Any,
) -> Backfilled:
    async with recovery(api, counting, github_hooks=hooks, **settings) as made:
        read, _ = await made.backfill(repositories, timedelta(days=days), file, progress)
    return read


def made_past(seed: int, count: int, ago: float = DAYS_AGO) -> History:
    return Historian(seed, time.time() - ago).history(count)


def of_runs(history: History) -> list[Delivery]:
    return [one for one in history.deliveries if one.event in {"workflow_run", "workflow_job"}]


def happened(api: FakeGitHub, history: History) -> None:
    """Let GitHub know the runs and jobs of a history. Its repositories have an environment with reviewers."""
    api.actions.knows(msgspec.json.decode(one.body) for one in of_runs(history))
    api.actions.environments = [
        {"id": 1, "name": "production", "protection_rules": [{"id": 1, "type": "required_reviewers"}]}
    ]


async def settled(counting: Worker) -> Figures:
    """Return what is exposed once nothing waits any more."""
    await counting.age(601)
    await counting.chores().settle()
    return counters(await counting.figures())


async def test_what_is_backfilled_and_delivered_before_meanwhile_or_after_counts_once(
    api: FakeGitHub, counting: Worker, tmp_path: Path
) -> None:
    history = made_past(1, 240)
    happened(api, history)
    chance = random.Random(1)  # noqa: S311 - made to be repeated
    deliveries = [*history.deliveries, *chance.sample(history.deliveries, 40)]
    chance.shuffle(deliveries)
    before, meanwhile, after = deliveries[:90], deliveries[90:190], deliveries[190:]

    async def arrive() -> None:
        for start in range(0, len(meanwhile), 4):
            await counting.count(meanwhile[start : start + 4])

    await counting.count(before)
    file = past_file(tmp_path)
    read, _ = await asyncio.gather(backfill(api, counting, file, sorted(api.actions.repositories)), arrive())
    assert read.jobs
    assert (read.left_out, read.errors) == (0, [])
    await counting.count(after)
    past_values = last_values(file.path)
    assert past_values
    assert_equal(summed(past_values, await settled(counting)), counters(history.truth.settled))


async def test_a_second_backfill_finds_nothing_new(api: FakeGitHub, counting: Worker, tmp_path: Path) -> None:
    happened(api, made_past(3, 100))
    await backfill(api, counting, past_file(tmp_path, "first"), sorted(api.actions.repositories))
    again = past_file(tmp_path, "second")
    read = await backfill(api, counting, again, sorted(api.actions.repositories))
    assert read.runs
    assert again.path.read_text("utf-8") == "# EOF\n"


async def test_finished_work_of_the_past_shows_in_no_series_gauge_sum_by_hour_or_exemplar(
    api: FakeGitHub, counting: Worker, tmp_path: Path
) -> None:
    ended = time.time() - builders.START.timestamp() - 5  # so late that a delivery of it has an exemplar
    api.actions.knows(
        [
            builders.run(1, status="completed", conclusion="success", updated=ended),
            builders.job(2, run_id=1, status="completed", conclusion="failure", started=9, completed=ended, runner=7),
        ]
    )
    file = past_file(tmp_path)
    await backfill(api, counting, file, ["acme/gears"])
    assert figures.value(last_values(file.path), "promgithub_job_duration_seconds_count", **OF_JOB) == 1
    assert not await counting.figures()
    snapshot = await counting.snapshot(exemplars=True)
    assert snapshot.closed["job"], "the job could have an exemplar"
    assert not exemplars(snapshot, EXPOSED)
    async with counting.store.connection() as connection:
        assert await connection.scalar(select(func.count()).select_from(hourly)) == 0


async def test_open_work_of_the_past_goes_into_the_gauges(api: FakeGitHub, counting: Worker, tmp_path: Path) -> None:
    api.actions.knows(
        [
            builders.run(1, status="in_progress", updated=3),
            builders.job(2, run_id=1, status="completed", conclusion="success", started=9, completed=99, runner=7),
            builders.job(3, run_id=1, status="in_progress", started=9, runner=8),
            builders.job(4, run_id=1),
        ]
    )
    file = past_file(tmp_path)
    read = await backfill(api, counting, file, ["acme/gears"])
    page = await counting.figures()
    assert [figures.total(page, f"promgithub_job_{state}") for state in ("queued", "in_progress")] == [1, 1]
    assert figures.total(page, "promgithub_workflow_in_progress") == 1
    assert figures.total(page, "promgithub_job_duration_seconds_count") == 0
    assert figures.total(last_values(file.path), "promgithub_job_duration_seconds_count") == 1
    assert (read.runs, read.jobs, read.opened) == (1, 3, 3)


async def test_a_backfill_that_was_interrupted_goes_on_and_writes_the_same_file(
    api: FakeGitHub, counting: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.recovery.backfill.SAVED_EVERY", 2)
    history = made_past(4, 200)
    happened(api, history)
    names = sorted(api.actions.repositories)

    def interrupt(read: Backfilled) -> None:
        if read.runs == 3:
            raise asyncio.CancelledError

    file = past_file(tmp_path)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await backfill(api, counting, file, names, progress=interrupt)
    assert not file.path.exists()
    asked = api.requests["GET jobs"]
    read = await backfill(api, counting, file, names)
    assert len({name for name, _ in api.actions.runs}) > read.runs, "it began from the start again"
    assert api.requests["GET jobs"] > asked
    values = last_values(file.path)
    async with counting.store.connection() as connection:
        assert await connection.scalar(select(func.count()).select_from(backfills)) == 1
    await counting.clear()
    whole = past_file(tmp_path, "whole")
    await backfill(api, counting, whole, names)
    assert_equal(values, last_values(whole.path))


async def test_a_full_window_is_halved_until_every_run_is_listed(
    api: FakeGitHub, counting: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.actions.most_results = 4
    monkeypatch.setattr("processor.recovery.backfill.MOST_RESULTS", 4)
    api.actions.knows(
        builders.run(n, status="completed", conclusion="success", created=n * n, updated=n * n + 60) for n in range(20)
    )
    file = past_file(tmp_path)
    assert (await backfill(api, counting, file, ["acme/gears"])).runs == 20
    assert figures.total(last_values(file.path), "promgithub_workflow_duration_seconds_count") == 20


async def test_a_repository_that_the_token_may_not_read_is_reported_and_the_others_are_read(
    api: FakeGitHub, counting: Worker, tmp_path: Path
) -> None:
    for name in ("acme/gears", "acme/cogs"):
        repo = builders.repository(name)
        api.actions.knows([builders.run(len(name), status="completed", conclusion="success", updated=9, repo=repo)])
    api.forbidden = {"/repos/acme/cogs"}
    read = await backfill(api, counting, past_file(tmp_path), ["acme/cogs", "acme/gears"])
    assert read.runs == 1
    assert ["/repos/acme/cogs" in str(error) for error in read.errors] == [True]


async def test_an_answer_that_is_no_list_of_runs_is_no_past_without_runs(
    api: FakeGitHub, counting: Worker, tmp_path: Path
) -> None:
    api.actions.knows([builders.run(1, status="completed", conclusion="success", updated=9)])
    proxied = [b'{"id": 1, "full_name": "acme/gears"}', b'{"workflows": []}', b'{"environments": []}', b"[]"]
    api.proxied.extend((200, body, {"Content-Type": "application/json"}) for body in [b"{}", *proxied])
    file = past_file(tmp_path)
    with pytest.raises(GitHubUnavailable, match="the answer is not a list of runs"):
        await backfill(api, counting, file, ["acme/gears"])
    assert (await backfill(api, counting, file, ["acme/gears"])).runs == 1


@pytest.mark.parametrize(("forbidden", "known"), [(False, 1), (True, 0)])
async def test_the_time_before_an_approval_is_not_time_in_the_queue(
    api: FakeGitHub, counting: Worker, tmp_path: Path, *, forbidden: bool, known: int
) -> None:
    done: dict[str, Any] = {"status": "completed", "conclusion": "success", "started": 3600, "completed": 3700}
    api.actions.knows(
        [
            builders.run(1, status="completed", conclusion="success", updated=3700),
            builders.job(2, run_id=1, runner=7, gate=3590, **done),
            builders.job(3, run_id=1, runner=8, **done),
        ]
    )
    api.actions.environments = [{"id": 1, "name": "production", "protection_rules": [{"id": 1, "type": "wait_timer"}]}]
    api.forbidden = {"/check-runs"} if forbidden else set()
    file = past_file(tmp_path)
    read = await backfill(api, counting, file, ["acme/gears"])
    assert read.unseen == (["acme/gears"] if forbidden else [])
    values = last_values(file.path)
    assert figures.total(values, "promgithub_job_queue_seconds_count") == known
    assert figures.total(values, "promgithub_job_duration_seconds_count") == 2


@pytest.mark.parametrize(("hook", "count"), [(HOOK, 1), ("acme/77", 2), ("app", 3)])
async def test_the_repositories_of_the_hooks_are_read(
    api: FakeGitHub, counting: Worker, tmp_path: Path, hook: str, count: int
) -> None:
    for place, name in enumerate(["acme/gears", "acme/cogs", "other/axles"], 1):
        repo = builders.repository(name)
        api.actions.knows([builders.run(place, status="completed", conclusion="success", updated=9, repo=repo)])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    app: dict[str, Any] = {"github_token": None, "github_app_id": "Iv1.abc", "github_app_key": pem}
    read = await backfill(api, counting, past_file(tmp_path), hooks=hook, **(app if hook == "app" else {}))
    assert (read.runs, read.errors) == (count, [])


async def test_series_above_the_limit_are_added_up(api: FakeGitHub, counting: Worker, tmp_path: Path) -> None:
    api.actions.knows(
        builders.run(n, status="completed", conclusion="success", updated=90 + n, workflow=f"build {n}")
        for n in range(5)
    )
    file = past_file(tmp_path, max_series=2)
    await backfill(api, counting, file, ["acme/gears"])
    values = last_values(file.path)
    counts = {dict(labels)["workflow_name"]: n for (name, labels), n in values.items() if name == ENDS}
    assert len(counts) == 3
    assert counts["__overflow__"] == 3
    assert figures.total(values, ENDS) == 5


async def test_prometheus_reads_the_blocks_and_its_increases_are_the_truth(
    api: FakeGitHub, postgres_url: str, tmp_path: Path
) -> None:
    several = [made_past(seed, 120, ago) for seed, ago in ((5, 13 * DAY), (6, 6 * DAY), (7, 4 * HOUR))]
    for history in several:
        happened(api, history)
    file = past_file(tmp_path)
    async with fresh_database(postgres_url) as url, worker(url, branches=DEFAULT_BRANCHES, home=HOST) as counting:
        await backfill(api, counting, file, sorted(api.actions.repositories))
        live = counters(await counting.figures())  # what was open, such as the second attempt of a run
    truth = summed(*(counters(history.truth.settled) for history in several))
    async with PrometheusServer("scrape_configs: []\n", past=file.path.read_text("utf-8")) as prometheus:
        # Over all of it, an increase is exact: each series begins at 0 and has a sample at the end.
        whole = await _increases(prometheus, "15d", _end(file))
        assert len(whole) > 300
        assert_equal(summed(_known(whole), _known(live)), _known(truth))
        # Elsewhere Prometheus extrapolates, by less than a step on both sides.
        alone = await _increases(prometheus, "1d", time.time() - 6 * DAY + 6 * HOUR)
        of_day = counters(several[1].truth.settled)
        ends = {sample: value for sample, value in of_day.items() if sample[0] == ENDS}
        assert ends
        assert {sample: alone[sample] for sample in ends} == pytest.approx(ends, rel=0.09)


def _end(file: PastFile) -> int:
    """Return the time of the last sample in a file, in Unix seconds."""
    return max(int(line.rsplit(" ", 1)[1]) for line in file.path.read_text("utf-8").splitlines() if line[0] != "#")


def _known(all_of_them: Figures) -> Figures:
    """Return the figures of what GitHub still knows of the past, without empty labels, as Prometheus has them."""
    return {
        (name, frozenset((label, text) for label, text in labels if text)): value
        for (name, labels), value in all_of_them.items()
        if value and _is_known(name, dict(labels))
    }


def _is_known(name: str, labels: Mapping[str, str]) -> bool:
    """Return whether GitHub still knows of the past what a sample counts.

    It does not know when a job with an environment was released, nor the states of what did not run.
    """
    if name.startswith("promgithub_workflow_status"):
        return labels["workflow_status"] == "completed" and labels.get("conclusion") != "action_required"
    if name.startswith("promgithub_job_status"):
        return labels["job_status"] != "queued" and labels["job_status"] != "waiting"
    return (
        name.startswith(("promgithub_workflow", "promgithub_job", "promgithub_anomaly")) and "queue_seconds" not in name
    )


async def _increases(prometheus: PrometheusServer, window: str, at: float) -> Figures:
    found: dict[figures.Sample, float] = {}
    for name in await prometheus.api("label/__name__/values"):
        one = f'label_replace(increase({name}[{window}]), "name", "{name}", "", "")'
        answer = await prometheus.api("query", query=one, time=str(at))
        for series in answer["result"]:
            labels = {k: v for k, v in series["metric"].items() if k not in {"job", "instance", "name"} and v}
            sample = sample_of(name, labels)
            found[sample] = round(found.get(sample, 0) + float(series["value"][1]), 6)
    return found
