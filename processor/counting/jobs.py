"""The subject of jobs: how the facts about a job are joined, and which columns the store has. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from processor.counting.catalogue import JOB_IN_PROGRESS, JOB_OLDEST_AGE, JOB_QUEUED, JOB_WAITING, OpenJobLabels
from processor.counting.ci_metrics import Tally
from processor.counting.executions import EXECUTIONS, ExecutionKey
from processor.counting.fingerprints import Fingerprint, fingerprint
from processor.counting.flags import Flag
from processor.counting.flaky_jobs import FLAKY_JOBS, FlakyJobKey, count_flaky
from processor.counting.job_worth import JobWorth, PendingJob, observed
from processor.counting.known_job import Job, JobKey, Start, queued
from processor.counting.names_and_conflicts import workflow_labels
from processor.counting.states import (
    FAILURES,
    JOB_LIMITS,
    OUTCOMES,
    Phase,
    Rank,
    conclusion_conflict,
    conflicts,
    join_names,
    least,
    newest,
    phase_of,
    union,
)
from processor.counting.subjects import Gauges, Observed, Row, Rows, Subject


class Jobs(Subject[JobKey, Job]):
    """Jobs of workflow runs."""

    name = "job"
    key = JobKey
    known = Job
    gauges = Gauges(
        "promgithub_job",
        {Phase.QUEUED: JOB_QUEUED, Phase.WAITING: JOB_WAITING, Phase.IN_PROGRESS: JOB_IN_PROGRESS},
        JOB_OLDEST_AGE,
        age_labels=(0, 3),
    )
    limits = JOB_LIMITS
    pending_kinds: ClassVar = {
        PendingJob.PHANTOM: "phantom_job",
        PendingJob.QUEUE_TIME: "queue_time",
        PendingJob.NEGATIVE_QUEUE_TIME: "negative_queue_time",
        PendingJob.NEGATIVE_DURATION: "negative_job_duration",
        PendingJob.CARRIED_OVER: "carried_over_job",
    }
    link_columns: ClassVar = {
        "run_id": int,
        "attempt": int,
        "name_key": Fingerprint,
        "finished_at": int,
        "failed": bool,
    }

    def join(self, known: Job, told: Job) -> Job:
        """Return the state after a fact."""
        standing = max(known.standing, told.standing)
        found = known.conflicts | told.conflicts | conflicts(known.names, told.names)
        if known.finish and told.finish:
            found |= conclusion_conflict(known.finish.conclusion, told.finish.conclusion)
        return Job(
            run_id=known.run_id,
            attempt=min(known.attempt, told.attempt),
            standing=standing,
            names=join_names(known.names, told.names),
            seen=union(known.seen, told.seen),
            created=least(known.created, told.created),
            started=least(known.started, told.started),
            start=least(known.start, told.start),
            finish=least(known.finish, told.finish),
            genuine=known.genuine or told.genuine,
            gated=known.gated or told.gated,
            gate=max(known.gate, told.gate) if known.gate and told.gate else known.gate or told.gate,
            passed=least(known.passed, told.passed),
            conflicts=found,
            stale=known.stale if standing == known.standing else told.stale,
            wanted=newest(known.wanted, told.wanted),
            job_name=max(known.job_name, told.job_name),
            fork=known.fork or told.fork,
            description=max(known.description, told.description),
        )

    def touches(
        self, told: Mapping[JobKey, Sequence[Job]], rows: Mapping[JobKey, Row[Job]]
    ) -> Iterable[tuple[Subject[Any, Any], tuple[Any, ...]]]:
        """Return the executions that jobs report now, or reported before without being counted, and flaky jobs."""
        for key, row in rows.items():
            known = row.known
            for job in told.get(key, ()):
                if job.start and not _reported(job.start, row):
                    yield EXECUTIONS, ExecutionKey(job.start.execution)
                if job.finish and job.finish.execution:
                    yield EXECUTIONS, ExecutionKey(job.finish.execution)
                if job.verdict:
                    yield FLAKY_JOBS, FlakyJobKey(job.verdict.key)
            if known and known.start and not row.has(Flag.QUEUE_TIME):
                yield EXECUTIONS, ExecutionKey(known.start.execution)
            if known and known.finish and known.finish.execution and not (row.has(Flag.END) and row.has(Flag.DURATION)):
                yield EXECUTIONS, ExecutionKey(known.finish.execution)

    def runs(self, told: Mapping[Any, Sequence[Job]], rows: Mapping[JobKey, Row[Job]]) -> set[tuple[str, int]]:
        """Return the runs (host and run ID) of jobs that are not known to come from a fork.

        `told` has the batch's facts about the jobs, `rows` their rows.
        """
        news = ((key, job) for key, facts in told.items() for job in facts[:1])
        stored = ((key, row.known) for key, row in rows.items() if row.known is not None)
        return {(key.host, job.run_id) for key, job in (*news, *stored) if not job.fork}

    def relate(self, key: JobKey, row: Row[Job], rows: Rows) -> None:
        """Mark a job whose run comes from a fork. The payload of a job does not say so."""
        job = row.known
        if job is not None and not job.fork and (key.host, job.run_id) in rows.forks:
            row.known = msgspec.structs.replace(job, fork=True)

    def count(self, key: JobKey, row: Row[Job], told: Sequence[Job], rows: Rows, tally: Tally) -> None:
        """Add the new increments of a job."""
        if row.known is not None:
            JobWorth(key.job_id, row.known, row, rows.of(EXECUTIONS), tally).count(told)
            verdicts = [job.verdict for job in told if job.verdict]
            count_flaky(verdicts, workflow_labels(row.known.names, fork=row.known.fork), rows.of(FLAKY_JOBS), tally)

    def unsettled(self, row: Row[Job]) -> int:
        """Return the pending increments."""
        job = row.known
        if job is None:
            return 0
        if not job.genuine:
            return 0 if row.has(Flag.PHANTOM) else PendingJob.PHANTOM
        waits = 0
        waited = queued(job, job.start) if job.start and not row.has(Flag.QUEUE_TIME) else None
        if waited is not None and waited < 0:
            waits |= 0 if row.has(Flag.SETTLED_NEGATIVE_QUEUE_TIME) else PendingJob.NEGATIVE_QUEUE_TIME
        elif waited is not None and job.gated:
            waits |= 0 if row.has(Flag.SETTLED_QUEUE_TIME) else PendingJob.QUEUE_TIME
        duration = job.finish.duration if job.finish and not row.has(Flag.DURATION) else None
        if duration is not None and duration < 0:
            waits |= 0 if row.has(Flag.SETTLED_NEGATIVE_DURATION) else PendingJob.NEGATIVE_DURATION
        if job.finish and job.finish.execution and not row.flags & (Flag.END | Flag.SETTLED_CARRIED_OVER):
            waits |= PendingJob.CARRIED_OVER
        return int(waits)

    def settle(self, key: JobKey, row: Row[Job], rows: Rows, tally: Tally) -> None:
        """Add the pending increments."""
        if row.known is not None:
            JobWorth(key.job_id, row.known, row, rows.of(EXECUTIONS), tally).settle(self.unsettled(row))

    def repository(self, known: Job) -> str:
        """Return the newest name of the repository."""
        return known.names.repository.value

    def links(self, known: Job) -> Mapping[str, Any]:
        """Return the attempt that a job belongs to, and, once it has succeeded or failed, what relates it to others."""
        links = {"run_id": known.run_id, "attempt": known.attempt}
        finish, description = known.finish, known.description
        if finish is None or finish.completed is None or finish.conclusion not in OUTCOMES:
            return links
        names = workflow_labels(known.names)
        key = fingerprint("job", names.repository, names.workflow_name, description.branch, description.name)
        return {**links, "name_key": key, "finished_at": finish.completed, "failed": finish.conclusion in FAILURES}

    def phase(self, known: Job) -> Phase | None:
        """Return the gauge that a job counts in."""
        return phase_of(known.standing, known.stale)

    def since(self, known: Job) -> int | None:
        """Return when the job started if it runs, else when it was released to the queue or was created."""
        if known.standing.rank == Rank.RUNNING and known.started is not None:
            return known.started
        if known.released is not None and self.phase(known) is Phase.QUEUED:
            return known.released
        return known.created

    def labels(self, known: Job) -> OpenJobLabels:
        """Return the newest names and the runner class."""
        return OpenJobLabels(*workflow_labels(known.names, fork=known.fork), known.runner_class)

    def ended(self, known: Job) -> int | None:
        """Return when the job completed, or None if that is unknown."""
        return known.finish.completed if known.finish else None

    def observed(self, row: Row[Job]) -> Iterable[Observed]:
        """Return the queue time and the duration, if they were counted."""
        return observed(row)

    def shown(self, known: Job) -> bool:
        """Return whether it is a real job, and not a check run."""
        return known.genuine


JOBS = Jobs()
"""Jobs of workflow runs."""


def _reported(start: Start, row: Row[Job]) -> bool:
    """Return whether the same start was counted before, so that its execution need not be loaded."""
    before = row.known.start if row.known else None
    return (
        row.has(Flag.QUEUE_TIME)
        and before is not None
        and (before.execution, before.attempt) == (start.execution, start.attempt)
    )
