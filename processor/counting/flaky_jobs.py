"""The subject of flaky jobs: jobs of one name in one run that failed, and succeeded when they ran again. Pure.

The store has a row for each name of a job in a run with a failure, or with a success in a later attempt. There are no
facts about these rows: jobs update them with `count_flaky`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from processor.counting.catalogue import JOB_FLAKY, JobFlakyLabels, WorkflowLabels
from processor.counting.ci_metrics import Tally
from processor.counting.fingerprints import Fingerprint
from processor.counting.flags import Flag
from processor.counting.states import least, most
from processor.counting.subjects import Row, Rows, Subject


class FlakyJobKey(NamedTuple):
    """The fingerprint of host, run and the full name of a job."""

    fingerprint: Fingerprint


class Verdict(NamedTuple):
    """The end of a job that may show that it is flaky. Times are Unix ms.

    `failed` is when the job ended with failure or timed_out, `retried` is when a job started that succeeded in a later
    attempt. One of them is None. `job_name` is the label value.
    """

    key: Fingerprint
    job_name: str
    failed: int | None
    retried: int | None


class FlakyJob(msgspec.Struct, frozen=True, array_like=True):
    """The first failure, and the last start of a success in a later attempt (Unix ms)."""

    failed: int | None = None
    retried: int | None = None

    @property
    def flaky(self) -> bool:
        """Whether a success started after a failure. A success that was carried over started before it."""
        return self.failed is not None and self.retried is not None and self.failed <= self.retried


class FlakyJobs(Subject[FlakyJobKey, FlakyJob]):
    """Names of jobs in runs."""

    name = "flaky_job"
    key = FlakyJobKey
    known = FlakyJob

    def join(self, known: FlakyJob, told: FlakyJob) -> FlakyJob:
        """Return the state after an end of a job."""
        return FlakyJob(least(known.failed, told.failed), most(known.retried, told.retried))

    def count(self, key: Any, row: Row[FlakyJob], told: Sequence[FlakyJob], rows: Rows, tally: Tally) -> None:
        """Add nothing: a flaky job is counted with the job whose end shows it."""


FLAKY_JOBS = FlakyJobs()
"""Names of jobs in runs."""


def count_flaky(
    verdicts: Iterable[Verdict], names: WorkflowLabels, rows: Mapping[FlakyJobKey, Row[FlakyJob]], tally: Tally
) -> None:
    """Join the ends of a job with the rows, and count each row once if it is flaky now."""
    for verdict in verdicts:
        row, told = rows[FlakyJobKey(verdict.key)], FlakyJob(verdict.failed, verdict.retried)
        row.known = told if row.known is None else FLAKY_JOBS.join(row.known, told)
        row.changed = True
        if row.known.flaky and row.first(Flag.FLAKY):
            JOB_FLAKY.inc(tally, JobFlakyLabels(*names, verdict.job_name))
