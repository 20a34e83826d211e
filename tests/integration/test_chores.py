"""No failure of a chore ends the process, and a row that cannot be processed does not stop the chore for the others."""

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import literal_column, text, update

from processor.chores import Chore, Supervisor
from processor.metrics import WorkerMetrics
from processor.store.tables import jobs
from shared import logs
from shared.errors import StoreRefused
from tests.support import builders, figures
from tests.support.worker import Holder, Worker, worker

DAY = 86_400

RUNBOOK = Path(__file__).parents[2] / "docs/runbook.md"

EARLY: dict[str, Any] = {"status": "in_progress", "created": 9, "started": 5, "runner": 5}
"""A job that started before it was created: an anomaly that is settled later."""

BROKEN = {
    "not JSON": "'{'",
    "too deep": f"'{'[' * 5000}'",
    "a fingerprint that is not one": """replace(state, ',1,"', ',1,"no-')""",
    "a number that is no moment": "replace(state, '000,0,\"acme', '000000000000000000,0,\"acme')",
}


def failures(counting: Worker, chore: str) -> float:
    value = counting.metrics.registry.get_sample_value("promgithub_chore_failures_total", {"chore": chore})
    assert value is not None
    return value


async def damage(counting: Worker, job_id: int, state: str) -> None:
    async with counting.engine.begin() as connection:
        done = await connection.execute(
            update(jobs).where(jobs.c.job_id == job_id).values(state=literal_column(state.replace(":", "\\:")))
        )
        assert done.rowcount == 1


async def jobs_of_which_one_is_broken(counting: Worker, state: str) -> None:
    """Count five jobs that are to be settled and are too old, and damage the state of the third."""
    await counting.count(builders.delivery(builders.job(n, **EARLY)) for n in range(1, 6))
    await damage(counting, 3, state)
    await counting.age(60 * DAY)


@pytest.mark.parametrize("state", BROKEN.values(), ids=list(BROKEN))
async def test_a_row_that_cannot_be_decoded_stops_no_chore_for_the_other_rows(counting: Worker, state: str) -> None:
    await jobs_of_which_one_is_broken(counting, state)
    chores = counting.chores()
    assert await chores.close_stale() >= 4
    assert await chores.settle() >= 4
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_stale_total") >= 4
    assert figures.total(counted, "promgithub_anomaly_total") >= 4
    assert await chores.close_stale() == 0


async def test_a_damaged_text_in_a_file_of_sqlite_stops_no_chore_and_no_delivery(tmp_path: Path) -> None:
    async with worker(f"sqlite:///{tmp_path}/promgithub.db") as counting:
        await jobs_of_which_one_is_broken(counting, "CAST(x'5bff5d' AS TEXT)")
        assert await counting.chores().close_stale() == 5
        assert await counting.chores().settle() == 4
        await counting.count([builders.delivery(builders.job(3, status="completed", conclusion="success"))])
        assert figures.total(await counting.figures(), "promgithub_anomaly_total") == 4


async def test_a_row_that_the_database_refuses_is_named_counted_and_skipped(tmp_path: Path, database_url: str) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    async with worker(database_url) as counting:
        await jobs_of_which_one_is_broken(counting, BROKEN["a fingerprint that is not one"])
        chores = counting.chores()
        assert await chores.settle() == 4
        assert (failures(counting, "settle"), failures(counting, "stale")) == (1, 0)
        assert await chores.settle() == 0
        assert failures(counting, "settle") == 1
    assert "('github.com', '3')" in stream.getvalue() or '["github.com", "3"]' in stream.getvalue()


def statement_of_the_runbook(subject: str) -> str:
    """Return the statement by which the runbook deletes a damaged row of a subject."""
    found = re.search(rf"^\| `{subject}` \|.*\| `(DELETE .+)` \|$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


async def test_the_runbook_s_statement_deletes_a_damaged_row_whose_end_then_counts_once(counting: Worker) -> None:
    ran: dict[str, Any] = {"run_id": 5, "created": 1, "started": 5, "runner": 5}
    done = builders.job(7, status="completed", conclusion="success", completed=9, **ran)
    payloads = (builders.job(7, status="in_progress", **ran), done, builders.run(5, status="completed"))
    await counting.count(builders.delivery(payload) for payload in payloads)
    before = await counting.figures()
    await damage(counting, 7, "'{'")
    for subject in ("job", "run"):
        async with counting.engine.begin() as connection:
            assert (await connection.execute(text(statement_of_the_runbook(subject)))).rowcount == 1
    assert await counting.figures() == before
    batch = await counting.count([builders.delivery(done)])
    assert not batch.dead
    again = await counting.figures()
    for name in ("promgithub_job_duration_seconds_count", "promgithub_job_queue_seconds_count"):
        assert figures.total(again, name) == figures.total(before, name) == 1


async def test_a_chore_that_fails_is_logged_counted_and_run_again(counting: Worker) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    stop = asyncio.Event()
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RecursionError("hunter2")
        if runs == 2:
            raise StoreRefused("refused")
        stop.set()

    supervisor = Supervisor(Holder(counting.store, "test"), counting.metrics, counting.store.outage)
    async with asyncio.timeout(30):
        await supervisor.keep(Chore("forget", 0.01, run), stop)
    assert runs == 3
    assert failures(counting, "forget") == 2
    assert "RecursionError at " in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_every_chore_has_a_series_from_the_start() -> None:
    registry = WorkerMetrics().registry
    for chore in ("forget", "merge", "reconcile", "redeliver", "settle", "stale"):
        assert registry.get_sample_value("promgithub_chore_failures_total", {"chore": chore}) == 0
