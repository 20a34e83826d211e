"""A page of more series than are read at once."""

import time

from sqlalchemy import insert

from processor.series import fingerprint
from processor.store.snapshot import CHUNK
from processor.store.tables import BUCKET_COLUMNS, counters, histograms
from tests import figures
from tests.worker import Worker

MANY = 2 * CHUNK + 1


async def fill(worker: Worker) -> None:
    """Put `MANY` series of a counter and of a histogram into the store; the n-th says n."""
    moment = int(time.time() * 1000)
    dated = {"created_at": moment, "touched_at": moment}
    pushes, waits = "promgithub_push", "promgithub_job_queue_seconds"
    counted = [
        {"key": fingerprint(pushes, n), "metric": pushes, "labels": f'["acme/{n}"]', "value": n, **dated}
        for n in range(1, MANY + 1)
    ]
    buckets = dict.fromkeys(BUCKET_COLUMNS, 0)
    observed = [
        {
            "key": fingerprint(waits, n),
            "metric": waits,
            "labels": f'["acme/{n}","build","pool"]',
            **dated,
            **buckets,
            "bucket_0": n,
            "sum_ms": 1000 * n,
        }
        for n in range(1, MANY + 1)
    ]
    async with worker.engine.begin() as connection:
        await connection.execute(insert(counters), counted)
        await connection.execute(insert(histograms), observed)


async def test_a_page_of_many_series_misses_none(counting: Worker) -> None:
    await fill(counting)
    page = await counting.figures()
    for n in range(1, MANY + 1):
        assert figures.value(page, "promgithub_push_total", repository=f"acme/{n}") == n
        labels = {"repository": f"acme/{n}", "workflow_name": "build", "runner_group": "pool"}
        assert figures.value(page, "promgithub_job_queue_seconds_sum", **labels) == n
        assert figures.value(page, "promgithub_job_queue_seconds_bucket", **labels, le="1.0") == n
        assert figures.value(page, "promgithub_job_queue_seconds_count", **labels) == n
