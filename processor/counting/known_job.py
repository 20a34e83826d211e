"""The state of a job. Pure."""

from typing import NamedTuple

import msgspec

from processor.counting.descriptions import JobDescription
from processor.counting.fingerprints import Fingerprint
from processor.counting.flaky_jobs import Verdict
from processor.counting.label_values import UNKNOWN
from processor.counting.states import Names, Seen, Standing


class JobKey(NamedTuple):
    """The key of a job."""

    host: str
    job_id: int


class Start(NamedTuple):
    """A report that a runner has started a job. Of several, the minimum is kept. Times are Unix ms.

    `created` is the job's creation time in this report. `execution` is the fingerprint of the start, in hex.
    """

    rank: int
    at: int
    emitted: int
    attempt: int
    execution: Fingerprint
    runner_group: str
    created: int | None
    started: int


class Finish(NamedTuple):
    """A report that a job has completed. Of several, the minimum is kept: the most complete, then the earliest one.

    Times are Unix ms. `lacking` is 0 if the report has everything, 1 without a runner, 2 without a time. `ran` is True
    if the job was on a runner. `execution` is the fingerprint of the finish, in hex, or "" if the report lacks a time.
    """

    unconcluded: bool
    lacking: int
    at: int
    emitted: int
    attempt: int
    execution: Fingerprint
    conclusion: str
    started: int | None
    completed: int | None
    ran: bool

    @property
    def duration(self) -> int | None:
        """How long the job ran, in ms, or None if it did not run or a time is missing."""
        if not self.ran or self.started is None or self.completed is None:
            return None
        return self.completed - self.started


UNBILLED = -1
"""The price if the job's minutes are not billable."""


class WantedRunner(NamedTuple):
    """The runner class that a job asks for. Of several, the newest is kept.

    `price` is in millionths of a US dollar per minute, or `UNBILLED`.
    """

    at: int
    emitted: int
    runner_class: str
    price: int


class Gate(NamedTuple):
    """A state before the start of a job with an environment. Of several, the maximum is kept: the newest.

    `at` is when its deployment was updated (Unix ms). `waits` is False if the job was queued then.
    """

    at: int
    emitted: int
    waits: bool


class Job(msgspec.Struct, frozen=True, array_like=True):
    """The state of a job. Times are Unix ms.

    `genuine` is True if there was a fact other than an empty `completed` (see `events.job_fact`). `gated` is True if
    the job has an environment. `passed` is then the earliest update of its deployment in a report that the job runs or
    ran. `fork` is True if the run of the job is known to come from a fork. `job_name` is empty unless LABELS has it.
    `verdict` is that of the first delivery: it is counted with its delivery.
    """

    run_id: int
    attempt: int
    standing: Standing
    names: Names
    seen: Seen
    description: JobDescription
    created: int | None = None
    started: int | None = None
    start: Start | None = None
    finish: Finish | None = None
    genuine: bool = False
    gated: bool = False
    gate: Gate | None = None
    passed: int | None = None
    conflicts: int = 0
    stale: str = ""
    fork: bool = False
    wanted: WantedRunner | None = None
    job_name: str = ""
    verdict: Verdict | None = None

    @property
    def runner_class(self) -> str:
        """The label value of the runner class."""
        return self.wanted.runner_class if self.wanted else UNKNOWN

    @property
    def released(self) -> int | None:
        """When the deployment of a job with an environment released it to the queue, or None if it is unknown.

        This is the update of the deployment in the newest `queued`. If the newest state before the start is `waiting`,
        the delivery about the release is missing. The job was then seen to leave `waiting` when it ran.
        """
        if self.gate is None or not self.gate.waits:
            return self.gate and self.gate.at
        return self.passed if self.passed is not None and self.passed >= self.gate.at else None


def queued(job: Job, start: Start) -> int | None:
    """Return the time (ms) in the queue, or None if it is unknown.

    It is negative if, according to the report, the job was created after it started. For a job with an environment,
    the time starts when its deployment released it. If that time is unknown, waiting for an approval cannot be
    separated from waiting for a runner.
    """
    created = job.created if start.created is None else start.created
    if created is None:
        return None
    if created > start.started or not job.gated:
        return start.started - created
    return None if job.released is None else max(0, start.started - max(created, job.released))
