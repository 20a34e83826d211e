"""Housekeeping closes stale rows, settles pending increments, deletes old rows, and changes nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from processor.housekeeping import Housekeeping
from processor.store.tables import metadata
from tests.support import builders, figures
from tests.support.builders import START
from tests.support.worker import Worker

MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest_asyncio.fixture
async def chores(counting: Worker) -> AsyncIterator[Housekeeping]:
    """Give the chores of a processor that holds the lease."""
    yield chores_of(counting)


def chores_of(
    counting: Worker, *, grace: timedelta = timedelta(minutes=10), clock: Callable[[], float] = time.monotonic
) -> Housekeeping:
    return counting.chores(grace=grace, clock=clock)


def since_start() -> float:
    """Return how long ago, in seconds, what happened at 0 was."""
    return (datetime.now(UTC) - START).total_seconds()


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
        (builders.run(status="queued"), 48 * HOUR, ("run", "too_long_queued")),
        (builders.run(status="requested"), 48 * HOUR, ("run", "too_long_queued")),
        (builders.run(status="waiting"), 30 * DAY, ("run", "too_long_waiting")),
        (builders.run(status="completed", conclusion="action_required"), 30 * DAY, ("run", "too_long_waiting")),
        (builders.run(status="in_progress"), 35 * DAY, ("run", "too_long_open")),
    ],
)
async def test_what_is_older_than_github_allows_is_closed_and_counted(
    counting: Worker, chores: Housekeeping, payload: builders.Payload, maximum: int, closed: tuple[str, str]
) -> None:
    await counting.count([builders.delivery(payload)])
    await counting.age(maximum - since_start() - MINUTE)
    assert await chores.close_stale() == 0
    await counting.age(2 * MINUTE)
    assert await chores.close_stale() == 1
    counted = await counting.figures()
    assert stale(counted) == {closed: 1}
    subject = "workflow" if closed[0] == "run" else "job"
    assert sum(figures.total(counted, f"promgithub_{subject}_{p}") for p in ("queued", "waiting", "in_progress")) == 0


async def test_a_run_that_looks_queued_is_kept_while_one_of_its_jobs_is_open(
    counting: Worker, chores: Housekeeping
) -> None:
    of_others = [builders.job(2, attempt=2), builders.job(3, run_id=3)]
    running = builders.job(1, status="in_progress", started=0, runner=5)
    await counting.count(map(builders.delivery, (builders.run(), running, *of_others)))
    await counting.age(49 * HOUR)
    assert await chores.close_stale() == 2
    assert stale(await counting.figures()) == {("job", "too_long_queued"): 2}
    await counting.age(3 * DAY)
    assert await chores.close_stale() == 1
    assert await chores.close_stale() == 1
    assert stale(await counting.figures()) == {
        ("job", "too_long_queued"): 2,
        ("job", "too_long_in_progress"): 1,
        ("run", "too_long_queued"): 1,
    }


async def test_a_run_whose_job_stays_open_is_closed_after_35_days(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.run())])
    for day in range(35):
        again = builders.job(day, status="in_progress", started=day * DAY, created=day * DAY, runner=5)
        await counting.count([builders.delivery(again)])
        await counting.age(DAY)
        await chores.close_stale()
    assert stale(await counting.figures())["run", "too_long_open"] == 1


APPROVED = 3 * DAY
"""When the job and the run below were approved, in seconds after they were created."""

CREATED = -APPROVED
PASSED_APPROVAL = {
    "job": [
        builders.job(created=CREATED, gate=CREATED),
        builders.job(status="waiting", created=CREATED, gate=CREATED + 1),
        builders.job(created=CREATED, gate=0),
    ],
    "workflow": [
        builders.run(created=CREATED),
        builders.run(status="waiting", created=CREATED, updated=CREATED + 1),
        builders.run(created=CREATED, updated=0),
    ],
}


@pytest.mark.parametrize("subject", list(PASSED_APPROVAL))
@pytest.mark.parametrize("backwards", [False, True])
async def test_after_an_approval_the_age_and_the_limit_of_what_is_queued_begin_when_it_was_queued_again(
    counting: Worker, chores: Housekeeping, subject: str, backwards: bool
) -> None:
    told = [builders.delivery(body, builders.guid(i)) for i, body in enumerate(PASSED_APPROVAL[subject])]
    for delivery in reversed(told) if backwards else told:
        await counting.count([delivery])
    age = f"promgithub_{subject}_oldest_age_seconds"
    label = {"job": "job_status", "workflow": "workflow_status"}[subject]
    shown = figures.total(await counting.figures(ages=True), age, **{label: "queued"})
    assert since_start() - MINUTE < shown <= since_start() + 1
    await counting.age(48 * HOUR - since_start() - MINUTE)
    assert await chores.close_stale() == 0
    await counting.age(2 * MINUTE)
    assert await chores.close_stale() == 1
    assert list(stale(await counting.figures())) == [("run" if subject == "workflow" else "job", "too_long_queued")]


async def test_a_job_left_open_by_its_completed_run_is_closed_after_ten_minutes(
    counting: Worker, chores: Housekeeping
) -> None:
    done = builders.run(status="completed", conclusion="success", updated=60)
    await counting.count([builders.delivery(builders.job()), builders.delivery(done)])
    await counting.age(9 * MINUTE)
    assert await chores.close_stale() == 0
    await counting.age(2 * MINUTE)
    assert await chores.close_stale() == 1
    assert stale(await counting.figures()) == {("job", "run_completed"): 1}


async def test_a_shorter_grace_closes_earlier(counting: Worker) -> None:
    chores = chores_of(counting, grace=timedelta(seconds=60))
    done = builders.run(status="completed", conclusion="success", updated=60)
    await counting.count([builders.delivery(builders.job()), builders.delivery(done)])
    await counting.age(30)
    assert await chores.close_stale() == 0
    await counting.age(31)
    assert await chores.close_stale() == 1


async def test_an_attempt_that_a_later_one_follows_is_closed_and_counted(
    counting: Worker, chores: Housekeeping
) -> None:
    first = builders.delivery(builders.run(attempt=1, status="in_progress"))
    second = builders.delivery(builders.run(attempt=2, status="in_progress"))
    await counting.count([first, second])
    await counting.age(11 * MINUTE)
    assert await chores.close_stale() == 1
    counted = await counting.figures()
    assert stale(counted) == {("run", "superseded"): 1}
    assert figures.total(counted, "promgithub_workflow_in_progress") == 1


async def test_a_true_event_after_a_stale_closing_wins(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.job())])
    await counting.age(49 * HOUR)
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
    await counting.age(11 * MINUTE)
    await chores.settle()
    truth = await counting.figures()
    await counting.clear()

    await counting.count(deliveries[: len(early)])
    await counting.age(40 * DAY)
    assert await chores.close_stale() == len(early)
    assert sum(stale(await counting.figures()).values()) == len(early)
    await counting.count(deliveries[len(early) :])
    await counting.age(11 * MINUTE)
    await chores.settle()
    counted = await counting.figures()
    assert {sample: value for sample, value in counted.items() if sample[0] != "promgithub_stale_total"} == truth


async def test_a_stale_closing_counts_once_per_row_and_reason_however_often_one_opens_again(
    counting: Worker, chores: Housekeeping
) -> None:
    await counting.count([builders.delivery(builders.job())])
    await counting.age(49 * HOUR)
    assert await chores.close_stale() == 1
    await counting.count([builders.delivery(builders.job(status="waiting", gate=5), builders.guid(5))])
    assert figures.total(await counting.figures(), "promgithub_job_waiting") == 1
    await counting.age(31 * DAY)
    assert await chores.close_stale() == 1
    await counting.count([builders.delivery(builders.job(gate=9), builders.guid(9))])
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 1
    await counting.age(49 * HOUR)
    assert await chores.close_stale() == 1
    assert await chores.close_stale() == 0
    counted = await counting.figures()
    assert stale(counted) == {("job", "too_long_queued"): 1, ("job", "too_long_waiting"): 1}
    assert figures.total(counted, "promgithub_job_queued") == 0


async def test_old_news_that_has_just_come_in_is_not_closed_at_once(counting: Worker, chores: Housekeeping) -> None:
    three_days = 3 * DAY
    await counting.count([builders.delivery(builders.job(created=-three_days))])
    assert await chores.close_stale() == 0
    await counting.age(10 * MINUTE + 1)
    assert await chores.close_stale() == 1


# --- What waits for the end of news ---


def anomalies(counted: figures.Figures) -> dict[str, float]:
    return {
        dict(labels)["kind"]: value for (name, labels), value in counted.items() if name == "promgithub_anomaly_total"
    }


async def waiting(counting: Worker) -> dict[str, float]:
    """Return what `promgithub_unsettled` says, without what is 0."""
    shown = figures.of_text(await counting.page())
    return {
        dict(labels)["kind"]: value
        for (name, labels), value in shown.items()
        if name == "promgithub_unsettled" and value
    }


RUNNING = builders.job(status="in_progress", created=0, started=9, runner=5)
PHANTOM = builders.job(status="completed", conclusion="success", completed=9, labels=[])
EARLY = builders.job(status="in_progress", created=9, started=5, runner=5)
BACKWARDS = builders.job(status="completed", conclusion="success", started=9, completed=5, runner=5)
RUN_BACKWARDS = builders.run(status="completed", conclusion="success", began=9, updated=5)
GATED = (
    builders.job(gate=0),
    builders.job(status="waiting", gate=2),
    builders.job(gate=5),
    builders.job(status="in_progress", started=9, runner=5, gate=5),
)
CARRIED_OVER = [
    builders.job(n, attempt=n, status="completed", conclusion="success", started=9, completed=60, runner=5)
    for n in (1, 2)
]
ANOMALIES = {
    "carried_over_job": CARRIED_OVER,
    "phantom_job": [PHANTOM],
    "negative_queue_time": [EARLY],
    "negative_job_duration": [builders.job(), BACKWARDS],
    "negative_run_duration": [RUN_BACKWARDS],
}


@pytest.mark.parametrize(("kind", "payloads"), ANOMALIES.items(), ids=list(ANOMALIES))
async def test_an_anomaly_that_later_news_may_explain_is_counted_once_after_the_grace(
    counting: Worker, chores: Housekeeping, kind: str, payloads: list[builders.Payload]
) -> None:
    await counting.count(map(builders.delivery, payloads))
    assert (await waiting(counting), anomalies(await counting.figures())) == ({kind: 1}, {})
    await counting.age(9 * MINUTE)
    assert await chores.settle() == 0
    await counting.age(2 * MINUTE)
    assert await chores.settle() == 1
    assert (await waiting(counting), anomalies(await counting.figures())) == ({}, {kind: 1})
    await counting.count(map(builders.delivery, payloads))
    await counting.age(11 * MINUTE)
    assert await chores.settle() == 0
    assert (await waiting(counting), anomalies(await counting.figures())) == ({}, {kind: 1})


async def test_news_begins_the_grace_anew(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(EARLY)])
    await counting.age(9 * MINUTE)
    await counting.count([builders.delivery(builders.job(created=9))])
    await counting.age(9 * MINUTE)
    assert await chores.settle() == 0
    assert await waiting(counting) == {"negative_queue_time": 1}


async def test_a_shorter_grace_settles_earlier(counting: Worker) -> None:
    await counting.count([builders.delivery(EARLY)])
    await counting.age(3)
    assert await chores_of(counting, grace=timedelta(seconds=2)).settle() == 1


@pytest.mark.parametrize(
    ("payload", "news"),
    [
        (PHANTOM, builders.job()),
        (
            BACKWARDS,
            builders.job(status="completed", conclusion="success", started=3, completed=5, runner=5, created=0),
        ),
        (
            RUN_BACKWARDS,
            builders.run(status="completed", conclusion="success", began=1, updated=5),
        ),
    ],
    ids=["phantom_job", "negative_job_duration", "negative_run_duration"],
)
async def test_what_news_explains_in_time_is_no_anomaly(
    counting: Worker, chores: Housekeeping, payload: builders.Payload, news: builders.Payload
) -> None:
    await counting.count([builders.delivery(payload, builders.guid(7))])
    await counting.count([builders.delivery(news, builders.guid(1))])
    await counting.age(11 * MINUTE)
    await chores.settle()
    assert anomalies(await counting.figures()) == {}
    assert await waiting(counting) == {}


async def test_a_settled_anomaly_stays_counted_and_news_that_explains_it_counts_too(
    counting: Worker, chores: Housekeeping
) -> None:
    await counting.count([builders.delivery(PHANTOM)])
    await counting.age(11 * MINUTE)
    await chores.settle()
    await counting.count([builders.delivery(RUNNING)])
    counted = await counting.figures()
    assert anomalies(counted) == {"phantom_job": 1}
    assert figures.total(counted, "promgithub_job_status_total", job_status="in_progress") == 1
    assert figures.total(counted, "promgithub_job_queue_seconds_sum") == 9


async def test_a_gated_job_waited_from_when_its_deployment_let_it_queue_and_is_measured_after_the_grace(
    counting: Worker, chores: Housekeeping
) -> None:
    await counting.count(map(builders.delivery, GATED))
    assert await waiting(counting) == {"queue_time": 1}
    ended = builders.job(status="completed", conclusion="success", started=9, completed=60, runner=5, gate=5)
    await counting.count([builders.delivery(ended)])
    assert await waiting(counting) == {"queue_time": 1}
    assert figures.total(await counting.figures(), "promgithub_job_queue_seconds_count") == 0
    await counting.age(11 * MINUTE)
    assert await chores.settle() == 1
    counted = await counting.figures()
    assert await waiting(counting) == {}
    assert figures.total(counted, "promgithub_job_queue_seconds_count") == 1
    assert figures.total(counted, "promgithub_job_queue_seconds_sum") == 4


async def test_without_the_news_that_its_gate_opened_a_job_waited_from_the_first_news_after_it_on(
    counting: Worker, chores: Housekeeping
) -> None:
    await counting.count(map(builders.delivery, (GATED[0], GATED[1], GATED[3])))
    assert await waiting(counting) == {"queue_time": 1}
    await counting.age(11 * MINUTE)
    assert await chores.settle() == 1
    assert figures.total(await counting.figures(), "promgithub_job_queue_seconds_sum") == 4


async def test_the_gate_that_opened_last_counts_although_its_news_comes_last(
    counting: Worker, chores: Housekeeping
) -> None:
    for payload in reversed(GATED):
        await counting.count([builders.delivery(payload)])
    await counting.age(11 * MINUTE)
    await chores.settle()
    assert figures.total(await counting.figures(), "promgithub_job_queue_seconds_sum") == 4


async def test_news_after_it_was_settled_leaves_a_queue_time_as_it_is(counting: Worker, chores: Housekeeping) -> None:
    await counting.count(map(builders.delivery, (GATED[0], GATED[3])))
    await counting.age(11 * MINUTE)
    await chores.settle()
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_job_queue_seconds_sum") == 9
    await counting.count([builders.delivery(GATED[2])])
    await counting.age(11 * MINUTE)
    assert await chores.settle() == 0
    later = await counting.figures()
    assert figures.total(later, "promgithub_job_queue_seconds_count") == 1
    assert figures.total(later, "promgithub_job_queue_seconds_sum") == 9


async def test_a_queue_time_counts_at_once_if_there_is_no_gate(counting: Worker) -> None:
    await counting.count([builders.delivery(RUNNING)])
    assert await waiting(counting) == {}
    assert figures.total(await counting.figures(), "promgithub_job_queue_seconds_sum") == 9


async def test_chores_of_two_processors_at_once_settle_each_once(counting: Worker) -> None:
    await counting.count(
        builders.delivery(builders.job(n, status="in_progress", created=9, started=5, runner=5)) for n in range(700)
    )
    await counting.age(11 * MINUTE)
    await asyncio.gather(*(chores_of(counting).settle() for _ in range(3)))
    await chores_of(counting).settle()
    assert anomalies(await counting.figures()) == {"negative_queue_time": 700}


# --- What is forgotten ---


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

    await counting.age(8 * DAY - MINUTE)
    assert await chores.forget() == 0
    await counting.age(2 * MINUTE)
    assert await chores.forget() == 5
    assert (await rows(counting)) == before | {"deliveries": 0}

    await counting.age(21 * DAY)
    await counting.count([builders.delivery(builders.push())])
    await counting.age(DAY)
    await chores.forget()
    assert await rows(counting) == before | {"deliveries": 1, "counters": 2, "histograms": 0, "gauge_labels": 0}
    assert figures.total(await counting.figures(), "promgithub_push_total") == 2

    await counting.age(10 * DAY - 2 * MINUTE)  # 40 days less a minute in all
    await chores.forget()
    kept = await rows(counting)
    assert {name: kept[name] for name in ("runs", "jobs", "executions")} == {"runs": 2, "jobs": 2, "executions": 2}
    await counting.age(2 * MINUTE)
    await chores.forget()
    after = await rows(counting)
    assert {name: after[name] for name in ("runs", "jobs", "executions", "deliveries")} == {
        "runs": 1,
        "jobs": 1,
        "executions": 0,
        "deliveries": 0,
    }


async def test_a_table_that_would_lose_most_of_its_rows_waits_until_the_process_has_run_for_a_day(
    counting: Worker,
) -> None:
    now = 0.0
    chores = chores_of(counting, clock=lambda: now)
    registry = counting.metrics.registry

    def waits() -> float | None:
        return registry.get_sample_value("promgithub_retention_waiting", {"table": "deliveries"})

    await counting.count(builders.delivery(builders.push(), builders.guid(n)) for n in range(900))
    await counting.age(9 * DAY)
    await counting.count(builders.delivery(builders.push(), builders.guid(n)) for n in range(900, 1800))
    assert await chores.forget() == 900  # half of the table
    assert waits() == 0

    await counting.count(builders.delivery(builders.push(), builders.guid(n)) for n in range(1800, 2000))
    before = await rows(counting)
    await counting.age(40 * DAY)
    assert await chores.forget() == 0
    assert (await rows(counting), waits()) == (before, 1)
    now = DAY - 1.0
    assert await chores.forget() == 0
    now = DAY + 0.0
    assert await chores.forget() > 1100
    assert ((await rows(counting))["deliveries"], waits()) == (0, 0)


async def test_a_small_table_is_deleted_at_once(counting: Worker, chores: Housekeeping) -> None:
    await counting.count(builders.delivery(builders.push(), builders.guid(n)) for n in range(999))
    await counting.age(9 * DAY)
    assert await chores.forget() == 999


async def test_news_of_a_closed_job_keeps_it_and_its_executions_for_another_40_days(
    counting: Worker, chores: Housekeeping
) -> None:
    ended = builders.job(status="completed", conclusion="success", started=1, completed=60, runner=5)
    await counting.count([builders.delivery(ended)])
    await counting.age(39 * DAY)
    again = builders.job(attempt=2, status="completed", conclusion="success", started=1, completed=60, runner=5)
    await counting.count([builders.delivery(again)])
    await counting.age(2 * DAY)
    await chores.forget()
    kept = await rows(counting)
    assert (kept["jobs"], kept["executions"]) == (1, 2)
    await counting.count([builders.delivery(ended)])
    # The series are gone, after 30 days without an observation; the job and its execution count no second time.
    assert figures.total(await counting.figures(), "promgithub_job_duration_seconds_count") == 0


async def test_open_rows_are_kept_however_old_they_are(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.run()), builders.delivery(builders.job())])
    await counting.age(100 * DAY)
    await chores.forget()
    left = await rows(counting)
    assert (left["runs"], left["jobs"]) == (1, 1)


async def test_a_processor_that_lost_the_lease_does_no_chores(counting: Worker, chores: Housekeeping) -> None:
    await counting.count([builders.delivery(builders.job()), builders.delivery(RUN_BACKWARDS)])
    await counting.age(60 * DAY)
    chores._lease.mine = False  # type: ignore[attr-defined]
    assert await chores.close_stale() == 0
    assert await chores.settle() == 0
    assert await chores.merge() == 0
    assert await chores.forget() == 0
