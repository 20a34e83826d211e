"""Executions: the work that a runner did once, although GitHub may report it as a job in several attempts. Pure.

After "Re-run failed jobs", GitHub reports the jobs that it does *not* run again as completed once more: some with the
same job ID, some with a new one (actions-runner-controller 4315). The row of an execution stores which jobs reported
it. An increment is counted as often as the largest number of different jobs that report it in one attempt. Jobs with
one name in one attempt (a matrix) are different jobs. Every further job ID is a job that was carried over.

There are two keys. *start* (host, run, job name, runner, start) is for the queue time. *finish* (host, run, job name,
start, end, conclusion) is for the end and the duration.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from processor.counting.ci_metrics import Tally
from processor.counting.fingerprints import Fingerprint
from processor.counting.flags import Flag
from processor.counting.subjects import Row, Rows, Subject


class ExecutionKey(NamedTuple):
    """The fingerprint of a start or a finish."""

    fingerprint: Fingerprint


class JobReport(NamedTuple):
    """A report of an execution: the attempt and the job that reports it."""

    attempt: int
    job_id: int


class Claims(msgspec.Struct, frozen=True, array_like=True):
    """The jobs that reported one increment of an execution, and how often it was counted.

    `reports` has the job IDs by attempt. A job in `elsewhere` was counted before it reported this execution: for
    another execution or for none. `carried_over` is how many further job IDs were counted as carried over.
    """

    reports: dict[int, tuple[int, ...]] = {}
    elsewhere: tuple[int, ...] = ()
    counted: int = 0
    carried_over: int = 0

    def knows(self, job_id: int) -> bool:
        """Return whether a job has reported the increment, in any attempt."""
        return any(job_id in ids for ids in self.reports.values())

    def with_report(self, by: JobReport, *, elsewhere: bool) -> "Claims":
        """Return the claims after a report; `elsewhere`: the job was counted before, for another execution or none."""
        ids = self.reports.get(by.attempt, ())
        if by.job_id in ids:
            return self
        return Claims(
            self.reports | {by.attempt: tuple(sorted((*ids, by.job_id)))},
            (*self.elsewhere, by.job_id) if elsewhere else self.elsewhere,
            self.counted,
            self.carried_over,
        )

    @property
    def due(self) -> int:
        """How often the increment must be counted in total."""
        return max((len(set(ids).difference(self.elsewhere)) for ids in self.reports.values()), default=0)

    @property
    def further(self) -> int:
        """Number of job IDs that reported it, minus those of the attempt with the most."""
        ids = {job_id for ids in self.reports.values() for job_id in ids}
        return len(ids) - max((len(ids) for ids in self.reports.values()), default=0)


class Execution(msgspec.Struct, frozen=True, array_like=True):
    """The state of an execution: the claims on each increment, by its flag."""

    claims: dict[int, Claims] = {}


class Executions(Subject[ExecutionKey, Execution]):
    """Executions."""

    name = "execution"
    key = ExecutionKey
    known = Execution

    def join(self, known: Execution, told: Execution) -> Execution:
        """Return `told`. There are no facts about executions: jobs update them with `first_of`."""
        return told

    def count(self, key: Any, row: Row[Execution], told: Sequence[Execution], rows: Rows, tally: Tally) -> None:
        """Add nothing: the increments of an execution are counted with its jobs."""


EXECUTIONS = Executions()
"""Executions of jobs."""


def first_of(flag: Flag, job: Row[Any], execution: Row[Execution] | None, by: JobReport) -> bool:
    """Return whether to count an increment of a job now, and store that in both rows.

    `execution` is the row of the execution that the job reports, or None if the report has no key of an execution.
    """
    if execution is None:
        return job.first(flag)
    before = _claims(flag, execution)
    claims = before.with_report(by, elsewhere=job.has(flag) and not before.knows(by.job_id))
    counts = claims.due > claims.counted and not (job.has(flag) and by.job_id in claims.elsewhere)
    if counts:
        claims = msgspec.structs.replace(claims, counted=claims.counted + 1)
        job.flags |= flag
        execution.flags |= flag
    _keep(flag, claims, execution)
    return counts


def newly_carried_over(flag: Flag, execution: Row[Execution] | None) -> int:
    """Return how many further job IDs have reported an increment since the last call (see `Claims.further`)."""
    if execution is None:
        return 0
    claims = _claims(flag, execution)
    more = claims.further - claims.carried_over
    if more <= 0:
        return 0
    _keep(flag, msgspec.structs.replace(claims, carried_over=claims.further), execution)
    return more


def _claims(flag: Flag, execution: Row[Execution]) -> Claims:
    known = execution.known.claims.get(int(flag)) if execution.known else None
    # A flag without claims means that this release cannot read the stored state.
    return known or Claims(counted=int(execution.has(flag)))


def _keep(flag: Flag, claims: Claims, execution: Row[Execution]) -> None:
    claimed = execution.known.claims if execution.known else {}
    if claimed.get(int(flag)) != claims:
        execution.known = Execution(claimed | {int(flag): claims})
        execution.changed = True
