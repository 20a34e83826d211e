"""GitHub's payloads, cut down to the fields that promgithub uses.

Lenient on purpose: GitHub adds fields and enum values without notice, GHES and old replays lack some. Only what
identifies a run or a job is required; enums are plain strings; unknown keys are skipped without being built (5 to 12
microseconds a payload). Field meanings: https://docs.github.com/en/webhooks/webhook-events-and-payloads.
"""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A GitHub identifier. Job ids have long passed 2**31; the store keeps 64 bits."""

Attempt = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
"""`run_attempt`: 1 for the first run, one more for each re-run; old Enterprise Servers do not send it."""

Timestamp = str | float | None
"""ISO 8601 text or Unix seconds (push has both); see `milliseconds`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Repository(msgspec.Struct, frozen=True):
    """The repository that the event belongs to, or the one that a run's head comes from."""

    id: Id | None = None
    full_name: str | None = None
    default_branch: str | None = None


class Workflow(msgspec.Struct, frozen=True):
    """The workflow beside a run; labels come from here because a run's own `name` may be empty."""

    name: str | None = None
    path: str | None = None


class Run(msgspec.Struct, frozen=True):
    """One attempt of a workflow run. There is no `run_id` here: the run's id is `id`."""

    id: Id
    run_attempt: Attempt | None = None
    name: str | None = None
    path: str | None = None
    head_branch: str | None = None
    head_repository: Repository | msgspec.UnsetType | None = msgspec.UNSET
    repository: Repository | None = None
    status: str | None = None
    conclusion: str | None = None
    created_at: Timestamp = None
    updated_at: Timestamp = None
    run_started_at: Timestamp = None


class RunEvent(msgspec.Struct, frozen=True):
    """`workflow_run`."""

    workflow_run: Run
    workflow: Workflow | None = None
    repository: Repository | None = None


class Job(msgspec.Struct, frozen=True):
    """One job of a run. It names no repository: that is at the top of the event."""

    id: Id
    run_id: Id
    run_attempt: Attempt | None = None
    name: str | None = None
    workflow_name: str | None = None
    head_branch: str | None = None
    status: str | None = None
    conclusion: str | None = None
    created_at: Timestamp = None
    started_at: Timestamp = None
    completed_at: Timestamp = None
    labels: list[msgspec.Raw] | None = None
    steps: list[msgspec.Raw] | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    runner_group_name: str | None = None


class Deployment(msgspec.Struct, frozen=True):
    """The deployment beside a job that has an environment; the only time stamp that tells its waits apart."""

    updated_at: Timestamp = None


class JobEvent(msgspec.Struct, frozen=True):
    """`workflow_job`."""

    workflow_job: Job
    deployment: Deployment | None = None
    repository: Repository | None = None


class PushEvent(msgspec.Struct, frozen=True):
    """`push`. `commits` holds at most 2,048 commits, however many were pushed.

    `ref` is required though it is not counted: the signature does not cover the event's name, so it is what keeps the
    body of another event from being counted as a push.
    """

    ref: str
    commits: list[msgspec.Raw] | None = None
    repository: Repository | None = None


class Base(msgspec.Struct, frozen=True):
    """The branch that a pull request wants to change."""

    ref: str | None = None


class PullRequest(msgspec.Struct, frozen=True):
    """A pull request, as far as it is counted."""

    merged: bool | None = None
    base: Base | None = None


class PullRequestEvent(msgspec.Struct, frozen=True):
    """`pull_request`."""

    pull_request: PullRequest
    action: str | None = None
    repository: Repository | None = None


def milliseconds(timestamp: Timestamp) -> int | None:
    """Return `timestamp` as Unix milliseconds, or None if it is absent, unreadable or before 1970.

    GitHub sends ISO 8601 in whole seconds, sometimes with a fraction or a space for the T, and Unix seconds in push;
    year 1 stands for "never".
    """
    if timestamp is None:
        return None
    try:
        if isinstance(timestamp, str):
            moment = datetime.fromisoformat(timestamp)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            moment = datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    elapsed = moment - EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000 if moment >= EPOCH else None
