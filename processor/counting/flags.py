"""Flags of a row: one bit for each increment that has been counted. A bit is never cleared. Pure.

The bits are stored, so a member must never change its value. A later release can add members without a migration.
"""

from enum import IntEnum

from processor.counting.states import Conflict, StaleReason


def _bit(place: int) -> int:
    return 1 << place


class Flag(IntEnum):
    """One increment of a run, a job or an execution."""

    SEEN_REQUESTED = _bit(0)
    SEEN_QUEUED = _bit(1)
    SEEN_PENDING = _bit(2)
    SEEN_WAITING = _bit(3)
    SEEN_IN_PROGRESS = _bit(4)
    SEEN_ACTION_REQUIRED = _bit(5)  # a run's completed/action_required, which is not its end
    END = _bit(8)  # completed, with the conclusion
    DURATION = _bit(9)
    QUEUE_TIME = _bit(10)
    RERUN = _bit(11)
    QUEUE_TIME_AWAITED = _bit(12)  # of an execution: the queue time is known, but not settled yet
    FLAKY = _bit(13)  # of the name of a job in a run
    RENAMED_REPOSITORY = _bit(16)
    CHANGED_BRANCH = _bit(17)
    CHANGED_CONCLUSION = _bit(18)
    PHANTOM = _bit(20)
    NEGATIVE_DURATION = _bit(21)
    NEGATIVE_QUEUE_TIME = _bit(22)
    SETTLED_QUEUE_TIME = _bit(24)  # this and the next: settled, even if not counted
    SETTLED_NEGATIVE_DURATION = _bit(25)
    SETTLED_NEGATIVE_QUEUE_TIME = _bit(26)
    SETTLED_CARRIED_OVER = _bit(27)
    BACKFILLED = _bit(28)  # a backfill counted some of it: those increments are in no series of the store
    STALE_RUN_COMPLETED = _bit(32)
    STALE_SUPERSEDED = _bit(33)
    STALE_TOO_LONG_QUEUED = _bit(34)
    STALE_TOO_LONG_WAITING = _bit(35)
    STALE_TOO_LONG_IN_PROGRESS = _bit(36)
    STALE_TOO_LONG_OPEN = _bit(37)
    STALE_DELETED = _bit(38)


SEEN_FLAGS = {
    ("requested", ""): Flag.SEEN_REQUESTED,
    ("queued", ""): Flag.SEEN_QUEUED,
    ("pending", ""): Flag.SEEN_PENDING,
    ("waiting", ""): Flag.SEEN_WAITING,
    ("in_progress", ""): Flag.SEEN_IN_PROGRESS,
    ("completed", "action_required"): Flag.SEEN_ACTION_REQUIRED,
}
"""The flag of each documented state before the end. For other states, `seen` in the row tells whether they counted."""

STALE_FLAGS = {reason: Flag[f"STALE_{reason.name}"] for reason in StaleReason}
"""The flag of each reason for closing a row."""

CONFLICT_FLAGS = {
    Conflict.REPOSITORY: (Flag.RENAMED_REPOSITORY, "renamed_repository"),
    Conflict.BRANCH: (Flag.CHANGED_BRANCH, "changed_branch"),
    Conflict.CONCLUSION: (Flag.CHANGED_CONCLUSION, "changed_conclusion"),
}
"""The flag and the kind of anomaly of each conflict."""
