"""Reads what is shown from the store."""

from typing import Any

from processor.counting.ci_metrics import Catalogue
from processor.counting.descriptions import job_url, run_url
from processor.counting.jobs import JOBS
from processor.counting.known_job import Job
from processor.counting.names_and_conflicts import workflow_labels
from processor.counting.runs import RUNS, Run
from processor.counting.states import Phase
from processor.status.insights import WINDOWS, insights
from processor.status.queries import Query
from processor.status.views import ClassCount, Failure, Failures, Insights, Open, OpenJob, OpenRun, RunCount, moment
from processor.store import Store, hourly_rows, status_rows
from processor.store.status_rows import FailedRow, OpenCount, OpenFilter, OpenRow, Part

READ_SECONDS = 5.0
"""Seconds that the database has for one answer."""

FAILURES_READ = 2000
"""How many of the newest failures are searched for those that a filter chooses, and for those that a re-run repeats."""

WORKFLOWS_SHOWN = 500
"""Maximum number of workflows in the insights."""


class StatusReader:
    """Reads views from the store. Every method raises `StoreUnavailable` and `StoreRefused`."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        """`catalogue` has the exposed buckets."""
        self._store = store
        self._catalogue = catalogue

    async def open(self, query: Query) -> Open:
        """Return the open runs and jobs."""
        async with self._store.reading(READ_SECONDS) as connection:
            now = await status_rows.now(connection)
            anything_counted = await status_rows.has_counters(connection)
            since = None if query.older is None else now - int(query.older.total_seconds() * 1000)
            wanted = OpenFilter(query.repository, query.runner_class, query.phase, since)
            part = Part(query.sort, query.limit, query.offset)
            job_counts = await status_rows.count_open(connection, JOBS, wanted)
            jobs = await status_rows.find_open(connection, JOBS, wanted, part)
            run_counts = await status_rows.count_open(connection, RUNS, wanted)
            runs = await status_rows.find_open(connection, RUNS, wanted, part)
        return Open(
            as_of=moment(now),
            anything_counted=anything_counted,
            by_class=_by_class(job_counts, now),
            jobs=[_open_job(row, now) for row in jobs],
            jobs_total=_total(job_counts),
            run_count=RunCount(**{count.phase.value: count.number for count in run_counts}),
            runs=[_open_run(row, now) for row in runs],
            runs_total=_total(run_counts),
            limit=query.limit,
            offset=query.offset,
        )

    async def failures(self, query: Query) -> Failures:
        """Return the jobs that failed last. A job that a re-run carries over has one entry."""
        async with self._store.reading(READ_SECONDS) as connection:
            now = await status_rows.now(connection)
            filtered = query.repository is not None or query.runner_class is not None
            most = FAILURES_READ if filtered else 2 * (query.offset + query.limit) + 1
            rows = _distinct(await status_rows.find_failed(connection, min(most, FAILURES_READ)), query)
            shown = rows[query.offset : query.offset + query.limit]
            in_a_row = await status_rows.count_in_a_row(connection, (row.name_key for row in shown))
        return Failures(
            as_of=moment(now),
            failures=[_failure(row, in_a_row.get(row.name_key, 0)) for row in shown],
            more=len(rows) > query.offset + query.limit,
            limit=query.limit,
            offset=query.offset,
        )

    async def insights(self, query: Query) -> Insights:
        """Return the insights of a window."""
        window = WINDOWS[query.window]
        async with self._store.reading(READ_SECONDS) as connection:
            sums = await hourly_rows.read(connection, window.hours, window.step, query.repository, query.runner_class)
        return insights(window, sums, self._catalogue, WORKFLOWS_SHOWN)


def _by_class(counts: list[OpenCount], now: int) -> list[ClassCount]:
    classes: dict[str, dict[str, Any]] = {}
    for count in counts:
        found = classes.setdefault(count.runner_class, {})
        found[count.phase.value] = count.number
        if count.phase is Phase.QUEUED:
            found["oldest_queued_seconds"] = _age(count.since, now)
    shown = [ClassCount(runner_class=name, **found) for name, found in classes.items()]
    return sorted(shown, key=lambda one: (-(one.oldest_queued_seconds or 0), one.runner_class))


def _total(counts: list[OpenCount]) -> int:
    return sum(count.number for count in counts)


def _age(since: int, now: int) -> float:
    return max(0, now - since) / 1000


def _open_job(row: OpenRow, now: int) -> OpenJob:
    job: Job = row.known
    names = workflow_labels(job.names)
    described = job.description
    return OpenJob(
        repository=names.repository,
        workflow=names.workflow_name,
        branch=described.branch,
        job=described.name,
        labels=list(described.labels),
        runner_class=row.runner_class,
        runner=described.runner_name,
        phase=row.phase.value,
        since=moment(row.since),
        age_seconds=_age(row.since, now),
        run_id=job.run_id,
        job_id=row.key.job_id,
        attempt=job.attempt,
        url=job_url(row.key.host, names.repository, job.run_id, row.key.job_id),
    )


def _open_run(row: OpenRow, now: int) -> OpenRun:
    run: Run = row.known
    names = workflow_labels(run.names)
    described = run.description
    return OpenRun(
        repository=names.repository,
        workflow=names.workflow_name,
        branch=described.branch,
        event=described.event,
        number=described.number,
        phase=row.phase.value,
        since=moment(row.since),
        age_seconds=_age(row.since, now),
        run_id=row.key.run_id,
        attempt=row.key.attempt,
        url=run_url(row.key.host, names.repository, row.key.run_id, row.key.attempt),
    )


def _distinct(rows: list[FailedRow], query: Query) -> list[FailedRow]:
    """Return the failures that a query chooses, each execution once."""
    found: dict[tuple[str, int, str, int], FailedRow] = {}
    for row in rows:
        if query.repository is not None and workflow_labels(row.known.names).repository != query.repository:
            continue
        if query.runner_class is not None and row.known.runner_class != query.runner_class:
            continue
        name = row.known.description.name
        found.setdefault((row.key.host, row.known.run_id, name, row.finished_at), row)
    return list(found.values())


def _failure(row: FailedRow, in_a_row: int) -> Failure:
    job = row.known
    names = workflow_labels(job.names)
    described, finish = job.description, job.finish
    duration = finish.duration if finish else None
    return Failure(
        repository=names.repository,
        workflow=names.workflow_name,
        branch=described.branch,
        job=described.name,
        conclusion=finish.conclusion if finish else "",
        failed_step=described.failed_step,
        failed_at=moment(row.finished_at),
        duration_seconds=None if duration is None or duration < 0 else duration / 1000,
        in_a_row=in_a_row,
        runner=described.runner_name,
        runner_class=job.runner_class,
        labels=list(described.labels),
        run_id=job.run_id,
        job_id=row.key.job_id,
        attempt=job.attempt,
        url=job_url(row.key.host, names.repository, job.run_id, row.key.job_id),
    )
