"""Batches on a real database: each delivery counts once, poison becomes a dead letter, MAX_SERIES is respected."""

import asyncio
import random

import pytest
from sqlalchemy import BigInteger, TypeDecorator, bindparam, select, text

from processor.counting.ci_metrics import OVERFLOW
from processor.counting.fold import News
from processor.counting.jobs import JOBS
from processor.counting.label_values import LABEL_LENGTH
from processor.counting.subjects import Rows
from processor.store import store
from processor.store.batch import BatchTransaction
from tests.support import builders, figures
from tests.support.worker import Worker, worker

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def registry_value(counting: Worker, name: str, **labels: str) -> float:
    return counting.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_delivery_counts_once_however_often_it_comes(counting: Worker) -> None:
    push = builders.delivery(builders.push(2), GUID)
    upper = builders.delivery(builders.push(2), GUID.upper())
    await counting.count([push, upper, push])
    await counting.count([push])
    assert await counting.figures() == {
        ("promgithub_push_total", frozenset({("repository", "acme/gears")})): 1,
        ("promgithub_commit_pushed_total", frozenset({("repository", "acme/gears")})): 2,
    }
    assert registry_value(counting, "promgithub_event_processed_total", event_type="push") == 1
    assert registry_value(counting, "promgithub_duplicate_deliveries_seen_total", event_type="push") == 3
    assert registry_value(counting, "promgithub_duplicate_deliveries_dropped_total", event_type="push") == 3


async def test_concurrent_batches_with_the_same_deliveries_count_each_once(counting: Worker) -> None:
    deliveries = [builders.delivery(builders.push(1), builders.guid(i)) for i in range(40)]
    jobs = [
        builders.delivery(
            builders.job(i % 7, status=status, started=1, completed=2, runner=5), builders.guid(i, serial=n)
        )
        for i in range(40)
        for n, status in enumerate(["queued", "in_progress", "completed"], 1)
    ]
    shuffle = random.Random(1)  # noqa: S311 - the same order each time
    batches = [shuffle.sample(deliveries + jobs, 120) for _ in range(6)]
    await asyncio.gather(*(counting.count(batch) for batch in batches))
    counted = await counting.figures()
    assert figures.value(counted, "promgithub_push_total", repository="acme/gears") == 40
    for status in ("queued", "in_progress", "completed"):
        assert figures.total(counted, "promgithub_job_status_total", job_status=status) == 7
    assert figures.total(counted, "promgithub_job_queue_seconds_count") == 7
    assert registry_value(counting, "promgithub_event_processed_total", event_type="workflow_job") == 120


async def test_a_poison_delivery_among_many_becomes_a_dead_letter_and_the_rest_counts(counting: Worker) -> None:
    good = [builders.delivery(builders.push(), builders.guid(i)) for i in range(50)]
    broken = builders.delivery({"workflow_job": {"id": "x"}}, event="workflow_job")
    nameless = builders.delivery(builders.push(), "no-guid")
    batch = await counting.count([*good[:20], broken, *good[20:30], nameless, *good[30:]])
    assert batch.dead == [(broken, "undecodable"), (nameless, "bad_delivery_id")]
    assert figures.total(await counting.figures(), "promgithub_push_total") == 50
    assert (
        registry_value(counting, "promgithub_event_dropped_total", event_type="workflow_job", reason="undecodable") == 1
    )


async def test_what_the_database_refuses_is_found_by_splitting_and_becomes_a_dead_letter(counting: Worker) -> None:
    async with counting.engine.begin() as connection:
        # A refusal that nothing before the database can foresee.
        if connection.dialect.name == "postgresql":
            await connection.execute(text("ALTER TABLE jobs ADD CONSTRAINT no_13 CHECK (job_id <> 13)"))
        else:
            await connection.execute(
                text(
                    "CREATE TRIGGER no_13 BEFORE INSERT ON jobs WHEN NEW.job_id = 13 "
                    "BEGIN SELECT RAISE(ABORT, 'no 13'); END"
                )
            )
    deliveries = [builders.delivery(builders.job(i)) for i in range(30)]
    batch = await counting.count(deliveries)
    assert batch.dead == [(deliveries[13], "refused")]
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 29
    assert registry_value(counting, "promgithub_event_processed_total", event_type="workflow_job") == 29
    again = await counting.count(deliveries)
    assert again.dead == [(deliveries[13], "refused")]
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 29


class Buggy(TypeDecorator[int]):
    """A type that has a bug: it cannot pass any value to the driver."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: object) -> int:
        raise AttributeError(f"{dialect} {value}")


class BuggyTransaction(BatchTransaction):
    """A transaction that has a bug, which one job meets."""

    async def load(self, news: News) -> Rows:
        """Fail for job 13, in SQLAlchemy, before the driver has the statement."""
        if any(getattr(key, "job_id", None) == 13 for key in news.get(JOBS.name, {})):
            await self._connection.execute(select(bindparam("value", 13, Buggy())))
        return await super().load(news)


async def test_a_bug_that_one_delivery_meets_costs_that_delivery_and_is_not_tried_for_ever(
    counting: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BatchTransaction", BuggyTransaction)
    deliveries = [builders.delivery(builders.job(i)) for i in range(20)]
    batch = await counting.count(deliveries)
    assert batch.dead == [(deliveries[13], "refused")]
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 19
    retries = [f for f in counting.metrics.registry.collect() if f.name == "promgithub_event_retries"]
    assert [sample.value for sample in retries[0].samples if sample.name.endswith("_total") and sample.value] == []


async def test_unknown_events_are_acknowledged_and_counted_as_other(counting: Worker) -> None:
    batch = await counting.count(
        [builders.delivery({"a": 1}, event="star"), builders.delivery({"a": 1}, event="brand_new_event")]
    )
    assert not batch.dead
    assert registry_value(counting, "promgithub_event_processed_total", event_type="star") == 1
    assert registry_value(counting, "promgithub_event_processed_total", event_type="other") == 1
    assert await counting.figures() == {}


@pytest.mark.parametrize(
    "name",
    ['say "hi"', "back\\slash", "two\nlines", "\r\ttabs", "🚀 ship", "x" * 10_000, "'; DROP TABLE jobs; --", "{}=,#"],
)
async def test_label_values_survive_whatever_they_contain(counting: Worker, name: str) -> None:
    await counting.count(
        [
            builders.delivery(builders.run(workflow=name)),
            builders.delivery(builders.job(workflow=name, status="in_progress", started=3, runner=5)),
        ]
    )
    counted = await counting.figures()
    labels = {"repository": "acme/gears", "branch": "main", "workflow_name": name}
    assert figures.value(counted, "promgithub_workflow_queued", **labels) == 1
    assert figures.value(counted, "promgithub_job_in_progress", runner_class="ubuntu-latest", **labels) == 1


async def test_nul_and_endless_text_are_made_storable(counting: Worker) -> None:
    endless = "y" * (LABEL_LENGTH + 1)
    batch = await counting.count(
        [builders.delivery(builders.run(1, workflow="a\0b")), builders.delivery(builders.run(2, workflow=endless))]
    )
    assert not batch.dead
    names = {dict(labels)["workflow_name"] for (name, labels) in await counting.figures() if "queued" in name}
    assert names == {"a\ufffdb", "y" * LABEL_LENGTH}


async def test_ids_beyond_two_to_the_53_stay_apart(counting: Worker) -> None:
    big = 2**53
    await counting.count([builders.delivery(builders.job(big + i, run_id=2**62)) for i in range(3)])
    await counting.count(
        [builders.delivery(builders.job(big + 1, run_id=2**62, status="completed", conclusion="success", completed=9))]
    )
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 2


async def test_a_gauge_shows_zero_after_its_last_run_and_job_closed(counting: Worker) -> None:
    await counting.count([builders.delivery(builders.run()), builders.delivery(builders.job())])
    await counting.count(
        [
            builders.delivery(builders.run(status="completed", conclusion="success", updated=9)),
            builders.delivery(builders.job(status="completed", conclusion="success", completed=9)),
        ]
    )
    counted = await counting.figures(ages=True)
    labels = {"repository": "acme/gears", "branch": "main", "workflow_name": "build"}
    for subject, pool in (("workflow", {}), ("job", {"runner_class": "ubuntu-latest"})):
        for phase in ("queued", "waiting", "in_progress"):
            assert figures.value(counted, f"promgithub_{subject}_{phase}", **labels, **pool) == 0
        label = {f"{subject}_status": "queued", **pool}
        age = figures.value(counted, f"promgithub_{subject}_oldest_age_seconds", repository="acme/gears", **label)
        assert age == 0


async def test_the_oldest_age_counts_from_creation_while_queued_and_from_the_start_while_running(
    counting: Worker,
) -> None:
    await counting.count(
        [
            builders.delivery(builders.job(1, created=10)),
            builders.delivery(builders.job(2, created=50)),
            builders.delivery(builders.job(3, created=0)),
            builders.delivery(builders.job(3, created=0, started=100, status="in_progress", runner=5)),
        ]
    )
    counted = await counting.figures(ages=True)

    def age(status: str) -> float:
        labels = {"repository": "acme/gears", "job_status": status, "runner_class": "ubuntu-latest"}
        return figures.value(counted, "promgithub_job_oldest_age_seconds", **labels)

    assert age("queued") - age("in_progress") == pytest.approx(90)


async def test_an_earlier_attempt_left_open_is_closed_by_a_later_one(counting: Worker) -> None:
    await counting.count([builders.delivery(builders.run(attempt=2, status="in_progress"))])
    await counting.count([builders.delivery(builders.run(attempt=1, status="in_progress"))])
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_workflow_in_progress") == 1
    assert figures.total(counted, "promgithub_workflow_reruns_total") == 1


@pytest.mark.parametrize("run_first", [False, True])
async def test_open_jobs_of_a_fork_are_on_no_branch_of_ours_as_soon_as_the_run_is_known(
    counting: Worker, run_first: bool
) -> None:
    of_fork = [builders.delivery(builders.job()), builders.delivery(builders.run(head_repository=builders.FORK))]
    own = builders.delivery(builders.job(2, run_id=2))
    await counting.count([own])
    for delivery in reversed(of_fork) if run_first else of_fork:
        await counting.count([delivery])
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_job_queued", branch="other") == 1
    assert figures.total(counted, "promgithub_job_queued", branch="main") == 1
    ended = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)
    await counting.count([builders.delivery(ended)])
    counted = await counting.figures()
    names = {"repository": "acme/gears", "branch": "other", "workflow_name": "build"}
    assert figures.value(counted, "promgithub_job_queued", **names, runner_class="ubuntu-latest") == 0
    assert figures.value(counted, "promgithub_job_duration_seconds_count", **names, job_conclusion="success") == 1


async def test_a_job_and_the_run_of_its_fork_counted_at_the_same_time_leave_it_on_no_branch_of_ours(
    store_url: str,
) -> None:
    async with worker(store_url) as one, worker(store_url) as other:
        for number in range(1, 21):
            job = builders.job(number, run_id=number)
            run = builders.run(number, head_repository=builders.FORK)
            await asyncio.gather(one.count([builders.delivery(job)]), other.count([builders.delivery(run)]))
        counted = await one.figures()
        assert figures.total(counted, "promgithub_job_queued", branch="other") == 20
        assert figures.total(counted, "promgithub_job_queued", branch="main") == 0


async def test_a_null_subject_is_acknowledged_and_no_dead_letter(counting: Worker) -> None:
    bodies = {event: {"action": "completed", event: None} for event in ("workflow_run", "workflow_job", "pull_request")}
    batch = await counting.count(builders.delivery(body, event=event) for event, body in bodies.items())
    assert batch.dead == []
    assert figures.total(await counting.figures(), "promgithub_anomaly_total", kind="null_subject") == 3


async def test_pushes_of_a_merge_queue_are_on_the_page_as_ignored(counting: Worker) -> None:
    ref = f"refs/heads/{builders.MERGE_QUEUE_BRANCH}"
    await counting.count([builders.delivery(builders.push(3, ref=ref))])
    counted = await counting.figures()
    assert figures.value(counted, "promgithub_push_ignored_total", reason="merge_queue") == 1
    assert figures.total(counted, "promgithub_push_total") == 0
    assert figures.total(counted, "promgithub_commit_pushed_total") == 0


async def test_a_metric_keeps_to_its_bound_of_series_under_concurrency(store_url: str) -> None:
    async with worker(store_url, max_series=10) as bounded:
        repositories = [builders.repository(f"acme/r{i}") for i in range(30)]
        groups = [[builders.delivery(builders.push(1, repo=r)) for r in repositories[i::5]] for i in range(5)]
        runs = [builders.delivery(builders.run(i, repo=r)) for i, r in enumerate(repositories)]
        await asyncio.gather(*(bounded.count(group) for group in [*groups, runs]))
        counted = await bounded.figures()
        pushes = {
            dict(labels)["repository"]: n for (name, labels), n in counted.items() if name == "promgithub_push_total"
        }
        assert len(pushes) == 11
        assert pushes[OVERFLOW] == 20
        assert sum(pushes.values()) == 30
        gauges = {
            dict(labels)["repository"]: n
            for (name, labels), n in counted.items()
            if name == "promgithub_workflow_queued"
        }
        assert len(gauges) == 11
        assert gauges[OVERFLOW] == 20
        assert registry_value(bounded, "promgithub_series_overflow_total", metric="promgithub_push") == 20


async def test_a_database_that_is_away_delays_a_batch_and_loses_nothing(counting: Worker) -> None:
    async with counting.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE counters RENAME TO counters_away"))
    counted = asyncio.create_task(counting.count([builders.delivery(builders.push())]))
    await asyncio.sleep(0.5)
    assert not counted.done()
    async with counting.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE counters_away RENAME TO counters"))
    await counted
    assert figures.total(await counting.figures(), "promgithub_push_total") == 1
    assert registry_value(counting, "promgithub_event_processing_failures_total", event_type="push") >= 1


async def test_runs_and_jobs_of_two_hosts_with_equal_ids_stay_apart(counting: Worker) -> None:
    other = "github.example.com"
    for host in (None, other):
        await counting.count(
            [builders.delivery(builders.run(3), host=host), builders.delivery(builders.job(3, run_id=3), host=host)]
        )
    ended = builders.run(3, status="completed", conclusion="success", updated=9)
    await counting.count([builders.delivery(ended, host=other)])
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_workflow_queued", repository="acme/gears") == 1
    assert figures.total(counted, "promgithub_workflow_queued", repository=f"{other}/acme/gears") == 0
    for repository in ("acme/gears", f"{other}/acme/gears"):
        assert figures.total(counted, "promgithub_job_queued", repository=repository) == 1
