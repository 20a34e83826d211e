"""What the status page and its API show. The types are the API: its documentation is made from them. Pure.

Times are UTC, durations are seconds, costs are US dollars.
"""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

_INT64 = {"format": "int64"}

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Seconds = Annotated[float, msgspec.Meta(description="seconds")]
Number = Annotated[int, msgspec.Meta(ge=0, extra_json_schema=_INT64)]
Identifier = Annotated[int, msgspec.Meta(extra_json_schema=_INT64)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


def moment(milliseconds: int) -> datetime:
    """Return a time in Unix ms as a datetime in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The base of everything that is shown."""


class Problem(View, frozen=True, kw_only=True):
    """Why there is no answer."""

    error: str


class ClassCount(View, frozen=True, kw_only=True):
    """The open jobs of a runner class. The age is that of the job that has been queued for the longest time."""

    runner_class: str
    queued: Number = 0
    waiting: Number = 0
    in_progress: Number = 0
    oldest_queued_seconds: Seconds | None = None


class OpenJob(View, frozen=True, kw_only=True):
    """A job that has not completed. `age_seconds` is how long it has been in its phase."""

    repository: str
    workflow: str
    branch: str
    job: str
    labels: list[str]
    runner_class: str
    runner: str
    phase: str
    since: Moment
    age_seconds: Seconds
    run_id: Identifier
    job_id: Identifier
    attempt: int
    url: str


class OpenRun(View, frozen=True, kw_only=True):
    """A workflow run that has not completed. `age_seconds` is how long it has been in its phase."""

    repository: str
    workflow: str
    branch: str
    event: str
    number: int
    phase: str
    since: Moment
    age_seconds: Seconds
    run_id: Identifier
    attempt: int
    url: str


class RunCount(View, frozen=True, kw_only=True):
    """The open workflow runs."""

    queued: Number = 0
    waiting: Number = 0
    in_progress: Number = 0


class Open(View, frozen=True, kw_only=True):
    """What is open now. The counts are of all that the filters choose, the lists are a part of it.

    `anything_counted` is whether promgithub has ever counted a delivery.
    """

    as_of: Moment
    anything_counted: bool
    by_class: list[ClassCount]
    jobs: list[OpenJob]
    jobs_total: Number
    run_count: RunCount
    runs: list[OpenRun]
    runs_total: Number
    limit: Number
    offset: Number


class Failure(View, frozen=True, kw_only=True):
    """A job that failed. `in_a_row` is how often it has failed since its last success, 0 if it succeeded afterwards."""

    repository: str
    workflow: str
    branch: str
    job: str
    conclusion: str
    failed_step: str
    failed_at: Moment
    duration_seconds: Seconds | None
    in_a_row: Number
    runner: str
    runner_class: str
    labels: list[str]
    run_id: Identifier
    job_id: Identifier
    attempt: int
    url: str


class Failures(View, frozen=True, kw_only=True):
    """The jobs that failed last, the newest first. `more` is True if there are further ones."""

    as_of: Moment
    failures: list[Failure]
    more: bool
    limit: Number
    offset: Number


class ClassInsight(View, frozen=True, kw_only=True):
    """What the jobs of a runner class needed in the window. Percentiles are of the time in the queue."""

    runner_class: str
    jobs_started: Number
    queue_p50_seconds: Seconds | None
    queue_p90_seconds: Seconds | None
    queue_p99_seconds: Seconds | None
    busy_seconds: Seconds
    billable_minutes: Number
    cost_usd: float


class WorkflowInsight(View, frozen=True, kw_only=True):
    """How the runs of a workflow ended in the window. Other conclusions, such as skipped, count in `runs` only.

    `failure_ratio` is failed ÷ (succeeded + failed). `failure_ratio_with_cancelled` counts cancelled runs as failed.
    """

    repository: str
    workflow: str
    runs: Number
    succeeded: Number
    failed: Number
    cancelled: Number
    failure_ratio: Ratio | None
    failure_ratio_with_cancelled: Ratio | None
    duration_p50_seconds: Seconds | None
    duration_p90_seconds: Seconds | None
    flaky_jobs: Number


class Step(View, frozen=True, kw_only=True):
    """A part of the window: when it began, and what was counted in it."""

    began: Moment
    jobs_started: Number
    queue_p90_seconds: Seconds | None
    runs: Number
    failed: Number
    busy_seconds: Seconds


class Insights(View, frozen=True, kw_only=True):
    """What was counted in the window, which ends now and begins with a full hour."""

    as_of: Moment
    window: str
    began: Moment
    by_class: list[ClassInsight]
    by_workflow: list[WorkflowInsight]
    workflows_total: Number
    steps: list[Step]


class EventCount(View, frozen=True, kw_only=True):
    """The deliveries of an event that this process has handled since its start, and the time of the newest."""

    event: str
    processed: Number
    duplicates: Number
    dropped: Number
    last_at: Moment | None


class Spool(View, frozen=True, kw_only=True):
    """The deliveries on the disk of this process. In standalone, they are its queue."""

    deliveries: Number
    bytes: Number
    capacity_bytes: Number
    oldest_age_seconds: Seconds


class Recovery(View, frozen=True, kw_only=True):
    """A task of recovery that is switched on, and when it last succeeded in this process."""

    task: str
    last_success_at: Moment | None


class Pipeline(View, frozen=True, kw_only=True):
    """The health of promgithub, as this process sees it. A value that it does not know is null."""

    as_of: Moment
    version: str
    started_at: Moment | None
    leader: bool
    broker_up: bool
    database_up: bool
    queue_depth: Number | None
    queue_capacity: Number | None
    held: Number
    oldest_age_seconds: Seconds
    lag_p50_seconds: Seconds | None
    lag_p99_seconds: Seconds | None
    failures: Number
    dead_letters: Number | None
    spool: Spool | None
    events: list[EventCount]
    recovery: list[Recovery]
