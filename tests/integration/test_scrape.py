"""Pages from the store: with more series than one chunk, and from a processor that loses the lease."""

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import insert

from processor.counting.catalogue import EXPOSED
from processor.recovery.runners import RunnerGauge
from processor.scrape import Page, Scrape
from processor.store.read_snapshot import READ_CHUNK
from processor.store.tables import BUCKET_COLUMNS, counters, histograms
from shared.admin.server import AdminServer, standard_routes
from shared.brokers.spool import SpoolBroker
from shared.settings import SPOOL_MAX_BYTES
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.servers.ports import free_port
from tests.support.worker import HOLDER, Holder, Worker

MANY = 2 * READ_CHUNK + 1


def row(metric: str, **labels: str) -> dict[str, Any]:
    return {"key": uuid.uuid4(), "metric": metric, "labels": json.dumps(labels)}


async def fill(worker: Worker) -> None:
    """Put `MANY` series of a counter and of a histogram into the store; the n-th says n."""
    moment = int(time.time() * 1000)
    dated = {"held": False, "created_at": moment, "touched_at": moment}
    buckets = dict.fromkeys(BUCKET_COLUMNS, 0)
    counted, observed = [], []
    for n in range(1, MANY + 1):
        counted.append({**row("promgithub_push", repository=f"acme/{n}"), "value": n, **dated})
        waits = row("promgithub_job_queue_seconds", repository=f"acme/{n}", runner_group="pool", workflow_name="build")
        observed.append({**waits, **dated, **buckets, "le_1000": n, "sum_ms": 1000 * n})
    async with worker.engine.begin() as connection:
        await connection.execute(insert(counters), counted)
        await connection.execute(insert(histograms), observed)


def by_repository(page: Figures, name: str, **wanted: str) -> dict[str, float]:
    """Return the samples of a name that have these labels, by their repository."""
    samples = ((dict(labels), value) for (found, labels), value in page.items() if found == name)
    return {labels["repository"]: value for labels, value in samples if wanted.items() <= labels.items()}


async def test_a_page_of_many_series_misses_none(counting: Worker) -> None:
    await fill(counting)
    page = await counting.figures()
    expected = {f"acme/{n}": n for n in range(1, MANY + 1)}
    assert by_repository(page, "promgithub_push_total") == expected
    assert by_repository(page, "promgithub_job_queue_seconds_sum") == expected
    assert by_repository(page, "promgithub_job_queue_seconds_bucket", le="1.0") == expected
    assert by_repository(page, "promgithub_job_queue_seconds_count") == expected


async def test_a_processor_that_loses_the_lease_while_it_renders_does_not_deliver_the_page(
    counting: Worker, tmp_path: Path
) -> None:
    await counting.count([builders.delivery(builders.push())])
    await counting.snapshot()  # takes the lease
    lease = Holder(counting.store, HOLDER)
    broker = SpoolBroker(tmp_path, 1000, 20, SPOOL_MAX_BYTES)
    scrape = Scrape(
        counting.store,
        lease,
        broker,
        counting.metrics,
        RunnerGauge(),
        max_series=counting.max_series,
        catalogue=EXPOSED,
    )
    loses = False

    async def gather(*, openmetrics: bool) -> Page:
        page = await scrape.page()
        lease.mine = not loses
        return page

    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()))
    await server.start()
    try:
        async with aiohttp.ClientSession() as client:
            pages = []
            for loss in (False, True):
                loses = loss
                async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    assert answer.status == 200
                    pages.append(figures.of_text(await answer.text()))
    finally:
        await server.close()
    assert [figures.total(page, "promgithub_exporter_leader") for page in pages] == [1, 0]
    assert [figures.total(page, "promgithub_push_total") for page in pages] == [1, 0]
