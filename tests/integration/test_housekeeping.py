"""What is stale is closed, what is old is deleted, and nothing else."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from processor.housekeeping import Housekeeping
from processor.lease import Lease
from processor.store.tables import metadata
from tests import builders, figures
from tests.builders import START
from tests.worker import Worker

MINUTE, HOUR, DAY = 60, 3600, 86_400


class Holder(Lease):
    """A lease that a test holds or loses at will."""

    mine = True

    @property
    def held(self) -> bool:
        return self.mine


@pytest_asyncio.fixture
async def chores(counting: Worker) -> AsyncIterator[Housekeeping]:
    """Give the chores of a processor that holds the lease; the clock stands at `START`."""
    counting.now = START.timestamp()
    lease = Holder(counting.store, "test")
    yield Housekeeping(counting.store, lease, timedelta(days=8), timedelta(days=30), lambda: counting.now)


async def rows(counting: Worker) -> dict[str, int]:
    async with counting.store.connection() as connection:
        return {
            table.name: await connection.scalar(select(func.count()).select_from(table)) or 0
            for table in metadata.sorted_tables
        }


def stale(counted: figures.Figures) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["kind"], dict(labels)["reason"]): value
        for (name, labels), value in counted.items()
        if name == "promgithub_stale_total"
    }


@pytest.mark.parametrize(
    ("payload", "maximum", "closed"),
    [
        (builders.job(status="queued"), 48 * HOUR, ("job", "too_long_queued")),
        (builders.job(status="waiting"), 30 * DAY, ("job", "too_long_waiting")),
        (builders.job(status="in_progress", started=0, runner=5), 5 * DAY, ("job", "too_long_in_progress")),
        (builders.run(status="queued"), 35 * DAY, ("run", "too_long_open")),
        (builders.run(status="in_progress"), 35 * DAY, ("run", "too_long_open")),
    ],
)
async def test_what_is_older_than_github_allows_is_closed_and_counted(
    counting: Worker, chores: Housekeeping, payload: builders.Payload, maximum: int, closed: tuple[str, str]
) -> None:
    await counting.count([builders.delivery(payload)])
    counting.now += maximum - 1
    assert await chores.close_stale() == 0
    counting.now += 2
    assert await chores.close_stale() == 1
    counted = await counting.figures()
    assert stale(counted) == {closed: 1}
    subject = "workflow" if closed[0] == "run" else "job"
    assert sum(figures.total(counted, f"promgithub_{subject}_{p}") for p in ("queued", "waiting", "in_progress")) == 0


async def test_a_job_left_open_by_its_completed_run_is_closed_after_ten_minutes(
    counting: Worker, chores: Housekeeping
) -> None:
    done = builders.run(status="completed", conclusion="success", updated=60)
    await counting.count([builders.delivery(builders.job()), builders.delivery(done)])
    counting.now += 10 * MINUTE
    assert await chores.close_stale() == 0
    counting.now += 1
    assert await chores.close_stale() == 1
    assert stale(await counting.figures()) == {("job", "run_completed"): 1}


async def test_an_attempt_that_a_later_one_follows_is_closed_and_counted(
    counting: Worker, chores: Housekeeping
) -> None:
    first = builders.delivery(builders.run(attempt=1, status="in_progress"))
    second = builders.delivery(builders.run(attempt=2, status="in_progress"))
    await counting.count([first, second])
    counting.now += 11 * MINUTE
    assert await chores.close_stale() == 1
    counted = await counting.figures()
    assert stale(counted) == {("run", "superseded"): 1}
    assert figures.total(counted, "promgithub_workflow_in_progress") == 1


async def test_a_true_event_after_a_stale_closing_wins(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.job())])
    counting.now += 49 * HOUR
    assert await chores.close_stale() == 1
    straggler = builders.job(status="queued", created=0, gate=None)
    await counting.count([builders.delivery(straggler, builders.guid())])
    running = builders.job(status="in_progress", started=7, runner=5)
    await counting.count([builders.delivery(running)])
    assert figures.total(await counting.figures(), "promgithub_job_in_progress") == 1
    ended = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)
    await counting.count([builders.delivery(ended)])
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_job_in_progress") == 0
    assert figures.total(counted, "promgithub_job_status_total", job_conclusion="success") == 1
    assert figures.total(counted, "promgithub_job_duration_seconds_sum") == 60


async def test_true_events_after_stale_closings_leave_the_figures_where_they_would_have_been(
    counting: Worker, chores: Housekeeping
) -> None:
    early = [
        builders.run(1, status="in_progress"),
        builders.run(1, attempt=2, status="in_progress", began=100),
        builders.run(2),
        builders.job(1, run_id=1),
        builders.job(2, run_id=2, status="in_progress", started=7, runner=5),
        builders.job(3, run_id=3, status="waiting", gate=5),
    ]
    late = [
        builders.run(1, status="completed", conclusion="failure", updated=90),
        builders.run(1, attempt=2, status="completed", conclusion="success", began=100, updated=190),
        builders.run(2, status="in_progress", updated=5),
        builders.job(1, run_id=1, status="completed", conclusion="failure", started=7, completed=67, runner=5),
        builders.job(2, run_id=2, status="completed", conclusion="success", started=7, completed=67, runner=5),
        builders.job(3, run_id=3, status="in_progress", started=9, runner=6),
    ]
    deliveries = [builders.delivery(payload) for payload in (*early, *late)]
    await counting.count(deliveries)
    truth = await counting.figures()
    await counting.clear()

    await counting.count(deliveries[: len(early)])
    counting.now += 40 * DAY
    assert await chores.close_stale() == len(early)
    assert sum(stale(await counting.figures()).values()) == len(early)
    await counting.count(deliveries[len(early) :])
    counted = await counting.figures()
    assert {sample: value for sample, value in counted.items() if sample[0] != "promgithub_stale_total"} == truth


async def test_old_news_that_has_just_come_in_is_not_closed_at_once(counting: Worker, chores: Housekeeping) -> None:
    counting.now += 3 * DAY
    await counting.count([builders.delivery(builders.job())])
    assert await chores.close_stale() == 0
    counting.now += 10 * MINUTE + 1
    assert await chores.close_stale() == 1


async def test_retention_deletes_what_is_old_and_keeps_the_rest(counting: Worker, chores: Housekeeping) -> None:
    closed = [
        builders.delivery(builders.run(1, status="completed", conclusion="success", updated=60)),
        builders.delivery(
            builders.job(1, run_id=1, status="completed", conclusion="success", started=1, completed=60, runner=5)
        ),
    ]
    still_open = [builders.delivery(builders.run(2)), builders.delivery(builders.job(2, run_id=2))]
    await counting.count([*closed, *still_open, builders.delivery(builders.push())])
    before = await rows(counting)
    assert before["deliveries"] == 5

    counting.now += 8 * DAY - 1
    assert await chores.forget() == 0
    counting.now += 2
    assert await chores.forget() == 5
    assert (await rows(counting)) == before | {"deliveries": 0}

    counting.now = START.timestamp() + 29 * DAY
    await counting.count([builders.delivery(builders.push())])
    counting.now = START.timestamp() + 30 * DAY + 1
    await chores.forget()
    after = await rows(counting)
    assert {name: after[name] for name in ("runs", "jobs", "executions", "histograms", "counters", "deliveries")} == {
        "runs": 1,
        "jobs": 1,
        "executions": 0,
        "histograms": 0,
        "counters": 2,
        "deliveries": 1,
    }
    assert figures.total(await counting.figures(), "promgithub_push_total") == 2


async def test_a_processor_that_lost_the_lease_does_no_chores(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.job())])
    counting.now += 60 * DAY
    chores._lease.mine = False  # type: ignore[attr-defined]
    assert await chores.close_stale() == 0
    assert await chores.forget() == 0
