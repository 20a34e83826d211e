"""States of runs and jobs: their order, their gauges, and the reasons for closing them as stale. Pure."""

from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, TypeVar


class Rank(IntEnum):
    """The progress of a state. A higher rank replaces a lower one, even if its time stamp is older."""

    PENDING = 0  # created, or waiting for a runner, an approval, a gate or a concurrency limit
    RUNNING = 1  # on a runner
    DONE = 2  # completed, with any conclusion


class Phase(StrEnum):
    """The gauge that an open run or job counts in."""

    QUEUED = "queued"  # waits for a runner
    WAITING = "waiting"  # waits for an approval, a gate or a concurrency limit
    IN_PROGRESS = "in_progress"


class StaleReason(StrEnum):
    """The reason for closing a run or job as stale."""

    RUN_COMPLETED = "run_completed"  # of a job: its run completed more than GRACE ago
    SUPERSEDED = "superseded"  # a later attempt of the run exists
    TOO_LONG_QUEUED = "too_long_queued"  # this and the next: longer than GitHub's own maximum
    TOO_LONG_WAITING = "too_long_waiting"
    TOO_LONG_IN_PROGRESS = "too_long_in_progress"
    TOO_LONG_OPEN = "too_long_open"  # of a run, in any phase
    DELETED = "deleted"  # GitHub's API answers 404


FAILURES = frozenset({"failure", "timed_out"})
"""The conclusions of a job that failed."""

OUTCOMES = FAILURES | {"success"}
"""The conclusions of a job that say whether it works."""

_HOUR = 3_600_000
_DAY = 24 * _HOUR


class Limit(NamedTuple):
    """The maximum age of a run or job in a phase, in milliseconds, and the reason for closing it then.

    With `without_jobs`, the limit applies only to a run that has no open job.
    """

    phase: Phase
    milliseconds: int
    reason: StaleReason
    without_jobs: bool = False


RUN_LIMITS = (
    Limit(Phase.QUEUED, 48 * _HOUR, StaleReason.TOO_LONG_QUEUED, without_jobs=True),
    Limit(Phase.WAITING, 30 * _DAY, StaleReason.TOO_LONG_WAITING, without_jobs=True),
    *(Limit(phase, 35 * _DAY, StaleReason.TOO_LONG_OPEN) for phase in Phase),
)
"""The limits of runs (GitHub docs, "Actions limits"). GitHub cancels every run after 35 days."""

JOB_LIMITS = (
    Limit(Phase.QUEUED, 48 * _HOUR, StaleReason.TOO_LONG_QUEUED),
    Limit(Phase.WAITING, 30 * _DAY, StaleReason.TOO_LONG_WAITING),
    Limit(Phase.IN_PROGRESS, 5 * _DAY, StaleReason.TOO_LONG_IN_PROGRESS),
)
"""The limits of jobs (same source)."""


class Standing(NamedTuple):
    """A state of a run or job, with its order: the maximum is the current state.

    `at` is the newest time stamp in the payload (Unix ms), `emitted` the time in the delivery ID (see
    `shared.delivery.emitted_at`); status and conclusion come last so that the order is total.
    """

    rank: int
    at: int
    emitted: int
    status: str
    conclusion: str


class Dated(NamedTuple):
    """A name with its order: the maximum is the newest name."""

    at: int
    emitted: int
    value: str


class Names(NamedTuple):
    """The newest names of a run or job. A name is None if no delivery contained it."""

    repository: Dated
    branch: Dated | None
    workflow_name: Dated | None


class Conflict(IntEnum):
    """The fields that differ between deliveries about one run or job: one bit each."""

    REPOSITORY = 1
    BRANCH = 2
    CONCLUSION = 4


Seen = tuple[tuple[str, str], ...]
"""The reported states before the end, sorted: (status, conclusion). Only completed/action_required has a conclusion."""

_T = TypeVar("_T", bound=int | tuple[Any, ...])
_D = TypeVar("_D", bound=tuple[Any, ...])


def newest(one: _D | None, other: _D | None) -> _D | None:
    """Return the newer of two dated values, or the one that is not None."""
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)


def least(one: _T | None, other: _T | None) -> _T | None:
    """Return the minimum, or the one that is not None. In a tuple, None is less than any value."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other, key=_comparable)


def most(one: int | None, other: int | None) -> int | None:
    """Return the maximum, or the one that is not None."""
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)


def _comparable(value: int | tuple[Any, ...]) -> Any:
    if isinstance(value, int):
        return value
    return tuple((part is not None, 0 if part is None else part) for part in value)


def union(one: Seen, other: Seen) -> Seen:
    """Return the states in either."""
    return one if one == other else tuple(sorted({*one, *other}))


def join_names(one: Names, other: Names) -> Names:
    """Return the newest of each name."""
    return Names(
        max(one.repository, other.repository),
        newest(one.branch, other.branch),
        newest(one.workflow_name, other.workflow_name),
    )


def conflicts(one: Names, other: Names) -> int:
    """Return which names differ, as bits of `Conflict`. A missing name does not differ from another."""
    found = Conflict.REPOSITORY if one.repository.value != other.repository.value else 0
    if one.branch is not None and other.branch is not None and one.branch.value != other.branch.value:
        found |= Conflict.BRANCH
    return int(found)


def conclusion_conflict(one: str, other: str) -> int:
    """Return `Conflict.CONCLUSION` if two conclusions differ, else 0. A missing one does not differ from another."""
    return int(Conflict.CONCLUSION) if one and other and one != other else 0


def rank(status: str, conclusion: str) -> Rank:
    """Return the rank of a state.

    While a run waits for the approval of a fork's pull request, it is completed/action_required, and continues later.
    It is therefore pending. An undocumented status is pending too, because it may be neither running nor completed.
    """
    if status == "completed" and conclusion != "action_required":
        return Rank.DONE
    return Rank.RUNNING if status == "in_progress" else Rank.PENDING


def phase_of(standing: Standing, stale: str) -> Phase | None:
    """Return the gauge that a run or job counts in, or None if it is closed."""
    if stale or standing.rank == Rank.DONE:
        return None
    if standing.rank == Rank.RUNNING:
        return Phase.IN_PROGRESS
    return Phase.WAITING if waits(standing.status) else Phase.QUEUED


def waits(status: str) -> bool:
    """Return whether a status before the start means to wait for an approval, a gate or a concurrency limit."""
    return status not in {"queued", "requested"}
