"""What is known about runs and jobs, how knowledge grows, and what it is worth in metrics.

A delivery tells a little about a run attempt or a job; what is known is the *join* of all that was told. Every part of
it is a maximum, a minimum, a union or an "ever", so that a join does not care in which order, how often or in which
portions deliveries come. Metrics follow from what is known alone (`run_tally`, `job_tally`), and what a transaction
adds to the series is the difference between after and before. That is why any processor, batch or order ends with the
same figures.

In the order in which GitHub's events happen, knowledge never takes a count back: states are counted when first seen,
measurements come from the first delivery that carries them. Only a late delivery that contradicts an earlier one (the
branch was missing, the repository was renamed in between) moves a count to where it belongs.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeVar

import msgspec

from processor.series import OTHER_BRANCH, UNKNOWN, Tally


class Rank(IntEnum):
    """How far along a state is. A lower one never beats a higher one, whatever the time stamps say."""

    PENDING = 0  # created, or held back, or waiting for a runner
    RUNNING = 1  # on a runner
    DONE = 2  # ended, whatever the conclusion


class Phase(StrEnum):
    """Which gauge an open run or job belongs to."""

    QUEUED = "queued"  # could start if there were a runner
    WAITING = "waiting"  # held back by an approval, a gate or a concurrency limit
    IN_PROGRESS = "in_progress"


class Stale(StrEnum):
    """Why a run or job was closed without having heard of its end."""

    RUN_COMPLETED = "run_completed"  # a job whose run ended a while ago
    SUPERSEDED = "superseded"  # a later attempt of the run exists
    TOO_LONG_QUEUED = "too_long_queued"  # beyond GitHub's own maximum, as the next ones
    TOO_LONG_WAITING = "too_long_waiting"
    TOO_LONG_IN_PROGRESS = "too_long_in_progress"
    TOO_LONG_OPEN = "too_long_open"  # a run of any phase
    DELETED = "deleted"  # GitHub was asked, and does not know it any more


_HOUR = 3_600_000
_DAY = 24 * _HOUR

GRACE = 600_000
"""Milliseconds without news before a run or job may be called stale: deliveries are late at times, or queue up here."""

RUN_LIMIT = 35 * _DAY
"""Milliseconds that a run can be open (GitHub docs, "Actions limits": a run is cancelled after 35 days)."""

JOB_LIMITS = {
    Phase.QUEUED: (48 * _HOUR, Stale.TOO_LONG_QUEUED),
    Phase.WAITING: (30 * _DAY, Stale.TOO_LONG_WAITING),
    Phase.IN_PROGRESS: (5 * _DAY, Stale.TOO_LONG_IN_PROGRESS),
}
"""Milliseconds that a job can be in a phase, and what it is called after that (same source)."""


class Standing(NamedTuple):
    """A state and what orders it among others of the same run or job: the greatest is current.

    `at` is the newest time stamp in the payload (Unix ms), `emitted` the time in the delivery ID (see
    `shared.delivery.emitted_at`); status and conclusion come last so that the order is total.
    """

    rank: int
    at: int
    emitted: int
    status: str
    conclusion: str


class Naming(NamedTuple):
    """The label values of a run or job; the least is used: the most complete, then the first."""

    missing: int
    at: int
    emitted: int
    repository: str
    branch: str
    workflow_name: str


class Ending(NamedTuple):
    """How it ended; the least, that is the first, is counted. `duration` (ms) tells something only if `measured`."""

    at: int
    emitted: int
    conclusion: str
    measured: bool
    duration: int


class Start(NamedTuple):
    """When a runner took a job; the least is measured, so that the first to tell decides. `queued` is in ms."""

    rank: int
    at: int
    emitted: int
    runner_group: str
    queued: int


class Execution(NamedTuple):
    """The job and attempt under which one execution of a job was first counted."""

    job_id: int
    attempt: int


Seen = tuple[tuple[str, str], ...]
"""The unfinished states that were seen, sorted: (status, conclusion), where only completed/action_required has one."""


class Run(msgspec.Struct, frozen=True, array_like=True):
    """What is known about one attempt of a run. `began` is when the attempt was triggered (Unix ms)."""

    attempt: int
    standing: Standing
    naming: Naming
    seen: Seen
    began: int | None = None
    ending: Ending | None = None
    stale: str = ""


class Job(msgspec.Struct, frozen=True, array_like=True):
    """What is known about a job.

    `genuine`: something other than an empty `completed` was seen (see `events.job_fact`). `fingerprint` stands for
    the execution that the job reports; `execution` is who counted that execution first, filled in by the store.
    """

    run_id: int
    attempt: int
    standing: Standing
    naming: Naming
    seen: Seen
    created: int | None = None
    started: int | None = None
    start: Start | None = None
    ending: Ending | None = None
    genuine: bool = False
    fingerprint: str = ""
    execution: Execution | None = None
    stale: str = ""


_Known = TypeVar("_Known", Run, Job)
_T = TypeVar("_T", int, str, Start, Ending)


def _least(one: _T | None, other: _T | None) -> _T | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def _union(one: Seen, other: Seen) -> Seen:
    return one if one == other else tuple(sorted({*one, *other}))


def rank(status: str, conclusion: str) -> Rank:
    """Return the rank of a state.

    A run that waits for approval of a fork's pull request says completed/action_required and goes on later, so it is
    pending. A status that GitHub has not documented yet is pending too: it is not known to run or to have ended.
    """
    if status == "completed" and conclusion != "action_required":
        return Rank.DONE
    return Rank.RUNNING if status == "in_progress" else Rank.PENDING


def phase(known: Run | Job) -> Phase | None:
    """Return the gauge that a run or job counts in, or None if it is closed."""
    if known.stale or known.standing.rank == Rank.DONE:
        return None
    if known.standing.rank == Rank.RUNNING:
        return Phase.IN_PROGRESS
    return Phase.QUEUED if known.standing.status in {"queued", "requested"} else Phase.WAITING


def since(known: Run | Job) -> int | None:
    """Return since when (Unix ms) a run or job has been open, or a job running; None if GitHub did not say."""
    if isinstance(known, Run):
        return known.began
    if known.standing.rank == Rank.RUNNING and known.started is not None:
        return known.started
    return known.created


def join_run(known: Run, told: Run) -> Run:
    """Return what is known about a run attempt after a delivery told something. Commutative and idempotent."""
    standing = max(known.standing, told.standing)
    return Run(
        attempt=known.attempt,
        standing=standing,
        naming=min(known.naming, told.naming),
        seen=_union(known.seen, told.seen),
        began=_least(known.began, told.began),
        ending=_least(known.ending, told.ending),
        stale=known.stale if standing == known.standing else "",
    )


def join_job(known: Job, told: Job) -> Job:
    """Return what is known about a job after a delivery told something. Commutative and idempotent."""
    standing = max(known.standing, told.standing)
    return Job(
        run_id=known.run_id,
        attempt=min(known.attempt, told.attempt),
        standing=standing,
        naming=min(known.naming, told.naming),
        seen=_union(known.seen, told.seen),
        created=_least(known.created, told.created),
        started=_least(known.started, told.started),
        start=_least(known.start, told.start),
        ending=_least(known.ending, told.ending),
        genuine=known.genuine or told.genuine,
        fingerprint=_least(known.fingerprint or None, told.fingerprint or None) or "",
        execution=known.execution or told.execution,
        stale=known.stale if standing == known.standing else "",
    )


def stale_run(known: Run, *, superseded: bool) -> Run:
    """Return a run closed by time; the next delivery that moves its state opens or ends it truly."""
    return msgspec.structs.replace(known, stale=Stale.SUPERSEDED if superseded else Stale.TOO_LONG_OPEN)


def stale_job(known: Job, *, run_ended: bool) -> Job:
    """Return a job closed by time; the next delivery that moves its state opens or ends it truly."""
    current = phase(known)
    if run_ended or current is None:
        return msgspec.structs.replace(known, stale=Stale.RUN_COMPLETED)
    return msgspec.structs.replace(known, stale=JOB_LIMITS[current][1])


def deleted(known: _Known) -> _Known:
    """Return a run or job closed because GitHub does not know it any more; otherwise as `stale_run`."""
    return msgspec.structs.replace(known, stale=Stale.DELETED)


def labels(known: Run | Job) -> tuple[str, str, str]:
    """Return the label values repository, branch and workflow_name."""
    naming = known.naming
    return naming.repository, naming.branch or OTHER_BRANCH, naming.workflow_name or UNKNOWN


def run_tally(known: Run | None) -> Tally:
    """Return all that a run attempt adds to counters and histograms."""
    tally = Tally()
    if known is None:
        return tally
    names = labels(known)
    for status, conclusion in known.seen:
        tally.count("promgithub_workflow_status", *names, status, conclusion)
    if known.ending is not None:
        tally.count("promgithub_workflow_status", *names, "completed", known.ending.conclusion)
    if known.attempt > 1:
        tally.count("promgithub_workflow_reruns", *names)
    _measure(tally, known.ending, "promgithub_workflow_duration_seconds", names, "negative_run_duration")
    return tally


def job_tally(job_id: int, known: Job | None) -> Tally:
    """Return all that a job adds to counters and histograms."""
    tally = Tally()
    if known is None:
        return tally
    if not known.genuine:
        tally.count("promgithub_anomaly", "phantom_job")
        return tally
    names = labels(known)
    for status, conclusion in known.seen:
        tally.count("promgithub_job_status", *names, status, conclusion)
    if _carried_over(job_id, known):
        tally.count("promgithub_anomaly", "carried_over_job")
        return tally
    if known.ending is not None:
        tally.count("promgithub_job_status", *names, "completed", known.ending.conclusion)
    if known.start is not None:
        if known.start.queued < 0:
            tally.count("promgithub_anomaly", "negative_queue_time")
        else:
            repository, _, workflow_name = names
            where = (repository, workflow_name, known.start.runner_group or UNKNOWN)
            tally.observe("promgithub_job_queue_seconds", *where, milliseconds=known.start.queued)
    _measure(tally, known.ending, "promgithub_job_duration_seconds", names, "negative_job_duration")
    return tally


def _carried_over(job_id: int, known: Job) -> bool:
    # "Re-run failed jobs" reports the jobs that it does not run again once more, under a new id and attempt.
    owner = known.execution
    return owner is not None and owner.job_id != job_id and owner.attempt != known.attempt


def _measure(tally: Tally, ending: Ending | None, metric: str, names: tuple[str, ...], anomaly: str) -> None:
    if ending is None or not ending.measured:
        return
    if ending.duration < 0:
        tally.count("promgithub_anomaly", anomaly)
    else:
        tally.observe(metric, *names, ending.conclusion, milliseconds=ending.duration)
