"""Exemplars on `/metrics`: of runs and jobs that closed in the last minutes, for those who ask for OpenMetrics."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import text

from processor.counting.catalogue import EXPOSED
from processor.counting.exemplars import WINDOW
from processor.counting.snapshot import ClosedRow
from processor.recovery.runners import RunnerGauge
from processor.scrape import Page, Scrape
from processor.store import recently_closed
from shared.admin.exposition import SCRAPER_HEADER
from shared.admin.server import AdminServer, standard_routes
from shared.brokers.spool import SpoolBroker
from shared.settings import SPOOL_MAX_BYTES
from tests.support import builders
from tests.support.servers.ports import free_port
from tests.support.worker import HOLDER, Holder, Worker, worker

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TEXT = {"Accept": "text/plain"}
SCRAPER = OPENMETRICS | {SCRAPER_HEADER: "10"}

JOB = {"job_id": "1", "run_id": "7"}
RUN = {"run_id": "7"}


@dataclass(frozen=True)
class Shown:
    """An exemplar on a page."""

    sample: str
    le: float
    labels: dict[str, str]
    value: float
    timestamp: float


@asynccontextmanager
async def serving(counting: Worker, directory: Path) -> AsyncIterator[str]:
    """Serve the metrics of a worker that holds the lease; yield the address of the page."""
    await counting.snapshot()  # takes the lease
    scrape = Scrape(
        counting.store,
        Holder(counting.store, HOLDER),
        SpoolBroker(directory, 1000, 20, SPOOL_MAX_BYTES),
        counting.metrics,
        RunnerGauge(),
        max_series=counting.max_series,
        catalogue=EXPOSED,
    )

    async def gather(*, openmetrics: bool) -> Page:
        return await scrape.page(exemplars=openmetrics)

    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()))
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        await server.close()


@pytest_asyncio.fixture
async def url(counting: Worker, tmp_path: Path) -> AsyncIterator[str]:
    """Give the address of the metrics of `counting`."""
    async with serving(counting, tmp_path / "spool") as address:
        yield address


async def page(url: str, headers: dict[str, str] = OPENMETRICS) -> str:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == headers["Accept"].partition(";")[0]
        return await answer.text()


async def exemplars(url: str, headers: dict[str, str] = OPENMETRICS) -> list[Shown]:
    """Return all exemplars of a page, which prometheus_client's parser must be able to read."""
    families = text_string_to_metric_families(await page(url, headers))  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples if sample.exemplar]
    return [
        Shown(s.name, float(s.labels["le"]), dict(s.exemplar.labels), s.exemplar.value, float(s.exemplar.timestamp))
        for s in samples
    ]


def seconds_ago(seconds: float) -> float:
    """Return a moment for the builders, in seconds after `builders.START`."""
    return int(time.time()) - seconds - builders.START.timestamp()


def job(job_id: int = 1, *, ago: float = 5, ran: float = 20, **fields: Any) -> builders.Payload:
    """Return a job that waited 3 s, ran, and completed some seconds ago."""
    end = seconds_ago(ago)
    times = {"created": end - ran - 3, "started": end - ran, "completed": end, "runner": 5}
    return builders.job(job_id, run_id=7, status="completed", **({"conclusion": "success"} | times | fields))


def run(*, ago: float = 5, lasted: float = 40) -> builders.Payload:
    end = seconds_ago(ago)
    return builders.run(7, status="completed", conclusion="success", began=end - lasted, updated=end)


async def test_openmetrics_shows_the_run_and_the_job_that_ended_last_and_when(counting: Worker, url: str) -> None:
    before = int(time.time())
    await counting.count(map(builders.delivery, (job(), run())))
    shown = {one.sample: one for one in await exemplars(url)}
    assert {name: (one.le, one.labels, one.value) for name, one in shown.items()} == {
        "promgithub_job_queue_seconds_bucket": (5, JOB, 3),
        "promgithub_job_duration_seconds_bucket": (30, JOB, 20),
        "promgithub_workflow_duration_seconds_bucket": (60, RUN, 40),
    }
    assert all(before - 5 <= one.timestamp <= time.time() - 5 for one in shown.values())

    await counting.count(map(builders.delivery, (job(2, ago=2), job(3, ago=20))))
    latest = {one.sample: one for one in await exemplars(url)}
    assert latest["promgithub_job_duration_seconds_bucket"].labels == {"job_id": "2", "run_id": "7"}
    assert latest["promgithub_workflow_duration_seconds_bucket"] == shown["promgithub_workflow_duration_seconds_bucket"]


async def test_the_text_format_has_no_exemplars_and_does_not_read_them(
    counting: Worker, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counting.count(map(builders.delivery, (job(), run())))

    reads = 0

    def read(*_: Any) -> list[ClosedRow]:
        nonlocal reads
        reads += 1
        return []

    assert " # {" not in await page(url, TEXT)
    monkeypatch.setattr(recently_closed, "read", read)
    await page(url, TEXT)
    assert reads == 0
    await page(url)
    assert reads == 2


async def test_what_was_closed_earlier_has_no_exemplar_even_if_it_is_reported_again(counting: Worker, url: str) -> None:
    await counting.count(map(builders.delivery, (job(), run())))
    await counting.age(WINDOW / 1000 - 10)
    assert len(await exemplars(url)) == 3
    await counting.age(15)
    assert await exemplars(url) == []
    assert not any((await counting.snapshot(exemplars=True)).closed.values())
    await counting.count(map(builders.delivery, (job(attempt=2), run())))
    assert await exemplars(url) == []


async def test_a_late_delivery_has_the_time_at_which_it_was_counted(counting: Worker, url: str) -> None:
    before = time.time()
    await counting.count(map(builders.delivery, (job(ago=7200), run(ago=3600))))
    shown = await exemplars(url)
    assert len(shown) == 3
    assert all(before - 1 <= one.timestamp <= time.time() + 1 for one in shown)


async def test_a_duplicate_and_a_job_that_a_rerun_carries_over_have_no_exemplar(counting: Worker, url: str) -> None:
    delivery_of = job()
    delivery = builders.delivery(delivery_of)
    for _ in range(2):
        await counting.count([delivery])
    once = await exemplars(url)
    assert [one.labels for one in once] == [JOB, JOB]
    again = job(2, attempt=2)
    same = {name: delivery_of["workflow_job"][name] for name in ("created_at", "started_at", "completed_at")}
    await counting.count([builders.delivery(again | {"workflow_job": again["workflow_job"] | same})])
    assert await exemplars(url) == once


async def test_a_scraper_sees_the_exemplars_of_a_series_once_it_is_released(counting: Worker, url: str) -> None:
    await counting.count(map(builders.delivery, (job(), run())))
    assert await exemplars(url, SCRAPER) == []
    await counting.chores(new_series_seconds=0).release()
    assert await exemplars(url, SCRAPER) == await exemplars(url)
    assert len(await exemplars(url, SCRAPER)) == 3


async def test_a_job_of_the_overflow_series_has_no_exemplar(store_url: str, tmp_path: Path) -> None:
    async with worker(store_url, max_series=1) as counting, serving(counting, tmp_path / "spool") as url:
        await counting.count([builders.delivery(job())])
        await counting.count([builders.delivery(job(2, ago=2, conclusion="failure", workflow="other"))])
        assert [one.labels for one in await exemplars(url)] == [JOB, JOB]
        assert "__overflow__" in await page(url)


async def test_a_scrape_reads_the_newest_rows_and_not_more_than_its_limit(
    counting: Worker, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recently_closed, "MOST_ROWS", 2)
    for number, ran in enumerate((20, 50, 100), 1):
        await counting.count([builders.delivery(job(number, ran=ran))])
        await counting.age(1)
    shown = [one for one in await exemplars(url) if one.sample == "promgithub_job_duration_seconds_bucket"]
    assert [(one.le, one.labels["job_id"]) for one in shown] == [(60, "2"), (120, "3")]


async def test_a_state_that_cannot_be_read_has_no_exemplar(counting: Worker, url: str) -> None:
    await counting.count(map(builders.delivery, (job(), run())))
    async with counting.engine.begin() as connection:
        await connection.execute(text("UPDATE jobs SET state = '{'"))
    assert [one.labels for one in await exemplars(url)] == [RUN]
