"""The increments of a job. The flags of the job and of its executions ensure that each is counted once. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from processor.counting.catalogue import (
    ANOMALIES,
    JOB_BILLABLE,
    JOB_BUSY,
    JOB_COST,
    JOB_DURATION,
    JOB_QUEUE,
    JOB_STATUS,
    JobConclusionLabels,
    JobQueueLabels,
    JobRunnerLabels,
    JobStatusLabels,
    KindLabels,
    WorkflowLabels,
)
from processor.counting.ci_metrics import Tally
from processor.counting.executions import Execution, ExecutionKey, JobReport, first_of, newly_carried_over
from processor.counting.flags import Flag
from processor.counting.known_job import UNBILLED, Finish, Job, Start, queued
from processor.counting.label_values import UNKNOWN
from processor.counting.names_and_conflicts import count_conflicts, workflow_labels
from processor.counting.runner_classes import billable_minutes
from processor.counting.subjects import Observed, Row


class PendingJob(IntEnum):
    """The pending increments that a job may have."""

    PHANTOM = 1
    QUEUE_TIME = 2
    NEGATIVE_QUEUE_TIME = 4
    NEGATIVE_DURATION = 8
    CARRIED_OVER = 16


@dataclass(frozen=True, slots=True)
class JobWorth:
    """A job while it is counted: its row, the rows of its executions, and the tally that receives the increments."""

    job_id: int
    job: Job
    row: Row[Job]
    executions: Mapping[ExecutionKey, Row[Execution]]
    tally: Tally
    _names: WorkflowLabels = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", workflow_labels(self.job.names, fork=self.job.fork))

    def count(self, told: Sequence[Job]) -> None:
        """Add the new increments that need not wait; `told` has the facts of the batch about the job."""
        count_conflicts(self.row, self.job.conflicts, self.tally)
        if not self.job.genuine:
            return
        seen = self.row.loaded.seen if self.row.loaded else ()
        for status in self.job.seen:
            if self.row.first_seen(seen, status):
                JOB_STATUS.inc(self.tally, JobStatusLabels(*self._names, *status, self.job.job_name))
        for report in told:
            self._count_report(report.start, report.finish)
        if self.row.loaded is not None:
            # What was known before may be counted only now, such as the end of what has just turned out to be a job.
            start = None if self.row.has(Flag.QUEUE_TIME) else self.job.start
            finish = None if self.row.has(Flag.END) and self.row.has(Flag.DURATION) else self.job.finish
            self._count_report(start, finish)

    def settle(self, waits: int) -> None:
        """Add the pending increments; `waits` has their bits of `PendingJob`."""
        start, finish = self.job.start, self.job.finish
        if waits & PendingJob.PHANTOM and self.row.first(Flag.PHANTOM):
            self._anomaly("phantom_job")
        if start and waits & PendingJob.QUEUE_TIME and self.row.first(Flag.SETTLED_QUEUE_TIME):
            self._count_queue_time(start)
        if start and waits & PendingJob.NEGATIVE_QUEUE_TIME and self.row.first(Flag.SETTLED_NEGATIVE_QUEUE_TIME):
            execution = self._execution(start)
            measured = execution is not None and (
                execution.has(Flag.QUEUE_TIME) or execution.has(Flag.QUEUE_TIME_AWAITED)
            )
            if not measured and first_of(Flag.NEGATIVE_QUEUE_TIME, self.row, execution, self._report(start)):
                self._anomaly("negative_queue_time")
        if finish and waits & PendingJob.NEGATIVE_DURATION and self.row.first(Flag.SETTLED_NEGATIVE_DURATION):
            execution = self._execution(finish)
            measured = execution is not None and execution.has(Flag.DURATION)
            if not measured and first_of(Flag.NEGATIVE_DURATION, self.row, execution, self._report(finish)):
                self._anomaly("negative_job_duration")
        if finish and waits & PendingJob.CARRIED_OVER and self.row.first(Flag.SETTLED_CARRIED_OVER):
            self._anomaly("carried_over_job", newly_carried_over(Flag.END, self._execution(finish)))

    def _count_report(self, start: Start | None, finish: Finish | None) -> None:
        if finish is not None:
            self._count_finish(finish)
        if start is not None and self.job.gated:
            self._await_queue_time(start)
        elif start is not None:
            self._count_queue_time(start)

    def _count_finish(self, finish: Finish) -> None:
        # A report without times is one of the execution that the job's other reports name. Counted by itself, it would
        # count twice, as a twin of the job may have been counted by a report of this job.
        named = finish if finish.execution or self.job.finish is None else self.job.finish
        execution = self._execution(named)
        if named.execution and execution is None:
            return  # the execution was not loaded, because this finish has already been counted
        by, tally = self._report(finish), self.tally
        if first_of(Flag.END, self.row, execution, by):
            JOB_STATUS.inc(tally, JobStatusLabels(*self._names, "completed", finish.conclusion, self.job.job_name))
        duration = finish.duration
        if duration is not None and duration >= 0 and first_of(Flag.DURATION, self.row, execution, by):
            JOB_DURATION.observe(tally, _duration_labels(self.job, self._names, finish), milliseconds=duration)
            self._count_minutes(duration)

    def _count_minutes(self, duration: int) -> None:
        """Count the time (ms) on a runner, and its cost."""
        wanted, names = self.job.wanted, self._names
        labels = JobRunnerLabels(names.repository, names.workflow_name, self.job.runner_class, self.job.job_name)
        JOB_BUSY.inc(self.tally, labels, by=duration)
        if wanted is not None and wanted.price != UNBILLED:
            minutes = billable_minutes(duration)
            JOB_BILLABLE.inc(self.tally, labels, by=minutes)
            JOB_COST.inc(self.tally, labels, by=minutes * wanted.price)

    def _await_queue_time(self, start: Start) -> None:
        """Mark that an execution has a pending queue time, so that no other report of it counts as an anomaly."""
        execution, waited = self._execution(start), queued(self.job, start)
        if execution is not None and waited is not None and waited >= 0 and execution.first(Flag.QUEUE_TIME_AWAITED):
            execution.changed = True

    def _count_queue_time(self, start: Start) -> None:
        execution, waited = self._execution(start), queued(self.job, start)
        if execution is None or waited is None or waited < 0:
            return
        if first_of(Flag.QUEUE_TIME, self.row, execution, self._report(start)):
            JOB_QUEUE.observe(self.tally, _queue_labels(self.job, self._names, start), milliseconds=waited)

    def _execution(self, reported: Start | Finish) -> Row[Execution] | None:
        return self.executions.get(ExecutionKey(reported.execution)) if reported.execution else None

    def _report(self, reported: Start | Finish) -> JobReport:
        return JobReport(reported.attempt, self.job_id)

    def _anomaly(self, kind: str, by: int = 1) -> None:
        if by:
            ANOMALIES.inc(self.tally, KindLabels(kind), by)


def observed(row: Row[Job]) -> Iterator[Observed]:
    """Yield the queue time and the duration of a completed job, those that were counted (see `Subject.observed`)."""
    job = row.known
    if job is None or job.finish is None or job.conflicts:
        return
    names = workflow_labels(job.names, fork=job.fork)
    waited = queued(job, job.start) if job.start and row.has(Flag.QUEUE_TIME) else None
    if job.start and waited is not None and waited >= 0:
        yield Observed(JOB_QUEUE, _queue_labels(job, names, job.start), waited)
    duration = job.finish.duration if row.has(Flag.DURATION) else None
    if duration is not None and duration >= 0:
        yield Observed(JOB_DURATION, _duration_labels(job, names, job.finish), duration)


def _queue_labels(job: Job, names: WorkflowLabels, start: Start) -> JobQueueLabels:
    group = start.runner_group or UNKNOWN
    return JobQueueLabels(names.repository, names.workflow_name, job.runner_class, group, job.job_name)


def _duration_labels(job: Job, names: WorkflowLabels, finish: Finish) -> JobConclusionLabels:
    return JobConclusionLabels(*names, finish.conclusion, job.job_name)
