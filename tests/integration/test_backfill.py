"""A backfill reads the past from a fake GitHub API over real HTTP, on each kind of store."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select

from processor.counting.catalogue import EXPOSED
from processor.policy import policy_of
from processor.recovery.backfill import Backfilled
from processor.recovery.client import GitHub
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.service import PastFile, Recovery, RecoveryContext
from processor.store.tables import backfills, past
from promgithub.simulation.histories import Historian, History
from promgithub.simulation.truth import sample_of
from shared.delivery import Delivery
from shared.errors import GitHubUnavailable
from shared.settings import ProcessorSettings, Url
from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.figures import Figures
from tests.support.servers.postgres import fresh_database
from tests.support.servers.prometheus import PrometheusServer
from tests.support.worker import Worker, worker

DAYS_AGO = 864_000
"""How long ago the histories of these tests happened, in seconds."""

HOST = "127.0.0.1"
"""The host of this GitHub's API, and so of its repositories."""


class Queue:
    """A publisher whose deliveries are counted at once."""

    def __init__(self, counting: Worker) -> None:
        self._counting = counting
        self.published: list[Delivery] = []

    async def ready_within(self, seconds: float) -> bool:
        return True

    async def publish(self, delivery: Delivery) -> None:
        self.published.append(delivery)
        await self._counting.count([delivery])


@pytest_asyncio.fixture
async def counting(store_url: str) -> AsyncIterator[Worker]:
    """Give a worker of the installation that has this API, on each kind of database in turn."""
    async with worker(store_url, branches=policy_branches(), home=HOST) as made:
        yield made


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeGitHub]:
    async with FakeGitHub() as server:
        yield server


def policy_branches() -> str:
    return ProcessorSettings().branches


@asynccontextmanager
async def recovery(api: FakeGitHub, counting: Worker, hooks: str = HOOK) -> AsyncIterator[Recovery]:
    own = ProcessorSettings(github_api_url=Url(api.url), github_token=TOKEN, github_hooks=hooks)

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
) -> Backfilled:
    async with recovery(api, counting, hooks) as made:
        read, _ = await made.backfill(repositories, timedelta(days=days), file, lambda _: None)
    return read


def last_values(text: str) -> Figures:
    """Return the last value of each series in a file, without the labels of a target."""
    values: dict[figures.Sample, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            named = {name: value for name, value in sample.labels.items() if name not in {"job", "instance"}}
            if not sample.name.endswith("_created"):
                values[sample.name, frozenset(named.items())] = sample.value
    return figures.of_ci({(name, labels): value for (name, labels), value in values.items()})


def summed(*several: Figures) -> Figures:
    """Return the sums of figures, rounded to millionths."""
    sums: dict[figures.Sample, float] = {}
    for one in several:
        for sample, value in one.items():
            sums[sample] = round(sums.get(sample, 0) + value, 6)
    return sums


def counters(truth: Figures) -> Figures:
    """Return the figures of counters and histograms that are not 0."""
    ends = ("_total", "_sum", "_count", "_bucket")
    return {sample: value for sample, value in truth.items() if sample[0].endswith(ends) and value}


def of_ci_runs(deliveries: Iterable[Delivery]) -> list[Delivery]:
    return [one for one in deliveries if one.event in {"workflow_run", "workflow_job"}]


def made_past(seed: int, count: int) -> History:
    return Historian(seed, time.time() - DAYS_AGO).history(count)


def known_to(api: FakeGitHub, deliveries: Iterable[Delivery]) -> None:
    api.knows(msgspec.json.decode(one.body) for one in deliveries)
    api.environments = [{"id": 1, "name": "production", "protection_rules": [{"id": 1, "type": "required_reviewers"}]}]


async def exposed_once_settled(counting: Worker) -> Figures:
    await counting.age(601)
    await counting.chores().settle()
    return counters(await counting.figures())


async def test_probe(api, counting, tmp_path):
    made = made_past(3, 300)
    known_to(api, of_ci_runs(made.deliveries))
    file = past_file(tmp_path)
    read = await backfill(api, counting, file, sorted(api.repositories))
    print(read)
    text = file.path.read_text()
    print(len(text), text[:600])
    values = counters(last_values(text))
    await counting.count(made.deliveries)
    live = await exposed_once_settled(counting)
    truth = counters(made.truth.settled)
    total = summed(values, live)
    wrong = set(total.items()) ^ set(truth.items())
    print("WRONG", *sorted(map(str, wrong)), sep="\n")
    assert not wrong
