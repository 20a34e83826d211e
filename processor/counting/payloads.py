"""The fields of GitHub's payloads that promgithub uses.

The types are lenient on purpose: GitHub adds fields and enum values without notice, and Enterprise Server and old
replays lack some. Only the fields that identify a run or a job are required. Enums are plain strings. The decoder skips
unknown keys without creating objects (5 to 12 microseconds per payload). The meaning of the fields:
https://docs.github.com/en/webhooks/webhook-events-and-payloads.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A GitHub identifier. Job IDs are larger than 2**31; the store has 64 bits."""

Attempt = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""`run_attempt`: 1 for the first run, one more for each re-run. Old Enterprise Servers do not send it, and Gitea and
Forgejo send 0 for the first run."""

Timestamp = str | float | None
"""ISO 8601 text or Unix seconds (push has both); see `milliseconds`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Repository(msgspec.Struct, frozen=True):
    """The repository of the event, or the repository of a run's head branch."""

    id: Id | None = None
    full_name: str | None = None
    default_branch: str | None = None
    private: bool | None = None


class Workflow(msgspec.Struct, frozen=True):
    """The workflow of a run. Labels use its name or path, because the run's own `name` may be empty or dynamic."""

    name: str | None = None
    path: str | None = None


class RunPayload(msgspec.Struct, frozen=True):
    """One attempt of a workflow run. There is no `run_id`: `id` is the ID of the run."""

    id: Id
    run_attempt: Attempt | None = None
    run_number: int | None = None
    name: str | None = None
    event: str | None = None
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
    """`workflow_run`. The run is required, but may be null, as in the other events."""

    workflow_run: RunPayload | None
    workflow: Workflow | None = None
    repository: Repository | None = None


class JobPayload(msgspec.Struct, frozen=True):
    """One job of a run. The repository is not here, but at the top level of the event."""

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
    labels: list[Any] | None = None
    steps: list[msgspec.Raw] | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    runner_group_name: str | None = None


class Deployment(msgspec.Struct, frozen=True):
    """The deployment of a job that has an environment. Only its `updated_at` orders the states before the job runs."""

    updated_at: Timestamp = None


class JobEvent(msgspec.Struct, frozen=True):
    """`workflow_job`."""

    workflow_job: JobPayload | None
    deployment: Deployment | None = None
    repository: Repository | None = None


class PushEvent(msgspec.Struct, frozen=True):
    """`push`. `commits` has at most 2,048 commits, even if more were pushed.

    `ref` is required. The signature does not cover the event's name, so without `ref` the body of another event could
    be counted as a push.
    """

    ref: str
    commits: list[msgspec.Raw] | None = None
    repository: Repository | None = None


class Base(msgspec.Struct, frozen=True):
    """The target branch of a pull request."""

    ref: str | None = None


class PullRequest(msgspec.Struct, frozen=True):
    """The counted fields of a pull request."""

    merged: bool | None = None
    base: Base | None = None


class PullRequestEvent(msgspec.Struct, frozen=True):
    """`pull_request`."""

    pull_request: PullRequest | None
    action: str | None = None
    repository: Repository | None = None


@lru_cache(maxsize=8192)
def milliseconds(timestamp: Timestamp) -> int | None:
    """Return `timestamp` as Unix milliseconds, or None if it is absent, unreadable or before 1970.

    GitHub sends ISO 8601 in whole seconds, sometimes with a fraction, or with a space instead of the T. In `push`, it
    sends Unix seconds. The year 1 means "never".
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
