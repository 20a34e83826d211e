"""The declarations of all CI metrics.

A metric that is declared here is stored, limited, exposed and documented without further code. A label with a default
is optional: it is exposed only if the setting LABELS has it.
"""

from typing import NamedTuple

from processor.counting.ci_metrics import SECONDS, USD, Catalogue

CATALOGUE = Catalogue()
"""The metrics of this release."""

STORED_BOUNDS = (
    100, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 15_000, 30_000,
    60_000, 120_000, 300_000, 600_000, 900_000, 1_200_000, 1_800_000, 2_700_000,
    3_600_000, 7_200_000, 14_400_000, 21_600_000, 28_800_000,
    86_400_000, 172_800_000, 259_200_000, 604_800_000, 1_209_600_000, 2_592_000_000,
)  # fmt: skip
"""Upper bounds, in milliseconds, of the buckets in the store. A histogram exposes some of them."""

QUEUE_BOUNDS = tuple(1000 * bound for bound in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600))
"""Upper bounds, in milliseconds, for the time in the queue."""

DURATION_BOUNDS = tuple(
    1000 * bound for bound in (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600)
)
"""Upper bounds, in milliseconds, for durations."""


class WorkflowLabels(NamedTuple):
    """The repository, branch and workflow of a run or job."""

    repository: str
    branch: str
    workflow_name: str


class WorkflowStatusLabels(NamedTuple):
    """A reported status of a run attempt."""

    repository: str
    branch: str
    workflow_name: str
    workflow_status: str
    conclusion: str
    event: str = ""


class WorkflowConclusionLabels(NamedTuple):
    """The conclusion of a run attempt."""

    repository: str
    branch: str
    workflow_name: str
    conclusion: str
    event: str = ""


class WorkflowRerunLabels(NamedTuple):
    """The repository, branch and workflow of a re-run."""

    repository: str
    branch: str
    workflow_name: str
    event: str = ""


class WorkflowAgeLabels(NamedTuple):
    """The open runs of a repository in one phase."""

    repository: str
    workflow_status: str


class JobStatusLabels(NamedTuple):
    """A reported status of a job."""

    repository: str
    branch: str
    workflow_name: str
    job_status: str
    job_conclusion: str
    job_name: str = ""


class JobConclusionLabels(NamedTuple):
    """The conclusion of a job."""

    repository: str
    branch: str
    workflow_name: str
    job_conclusion: str
    job_name: str = ""


class OpenJobLabels(NamedTuple):
    """The repository, branch, workflow and runner class of an open job."""

    repository: str
    branch: str
    workflow_name: str
    runner_class: str


class JobQueueLabels(NamedTuple):
    """The workflow, the runner class and the runner group of a job that waited."""

    repository: str
    workflow_name: str
    runner_class: str
    runner_group: str
    job_name: str = ""


class JobRunnerLabels(NamedTuple):
    """The workflow and the runner class of a job that ran."""

    repository: str
    workflow_name: str
    runner_class: str
    job_name: str = ""


class JobAgeLabels(NamedTuple):
    """The open jobs of a repository and a runner class in one phase."""

    repository: str
    runner_class: str
    job_status: str


class JobFlakyLabels(NamedTuple):
    """The workflow and the name of a flaky job."""

    repository: str
    branch: str
    workflow_name: str
    job_name: str


class RepositoryLabels(NamedTuple):
    """A repository."""

    repository: str


class PullRequestLabels(NamedTuple):
    """An action on a pull request."""

    repository: str
    base_branch: str
    pull_request_status: str


class StaleLabels(NamedTuple):
    """The kind of a stale row (run or job), and the reason for closing it."""

    kind: str
    reason: str


class ReasonLabels(NamedTuple):
    """The reason why an event is not counted."""

    reason: str


class KindLabels(NamedTuple):
    """A kind of anomaly, or of pending increment."""

    kind: str


class NoLabels(NamedTuple):
    """No labels."""


WORKFLOW_STATUS = CATALOGUE.counter(
    "promgithub_workflow_status",
    "Reported statuses of workflow run attempts; each status counts once per attempt.",
    WorkflowStatusLabels,
)
WORKFLOW_DURATION = CATALOGUE.histogram(
    "promgithub_workflow_duration_seconds",
    "Time from the start of a workflow run attempt to its completion, including waiting.",
    WorkflowConclusionLabels,
    DURATION_BOUNDS,
)
WORKFLOW_QUEUED = CATALOGUE.gauge("promgithub_workflow_queued", "Workflow runs waiting for a runner.", WorkflowLabels)
WORKFLOW_WAITING = CATALOGUE.gauge(
    "promgithub_workflow_waiting",
    "Workflow runs waiting for an approval, a deployment gate or a concurrency limit.",
    WorkflowLabels,
)
WORKFLOW_IN_PROGRESS = CATALOGUE.gauge("promgithub_workflow_in_progress", "Workflow runs in progress.", WorkflowLabels)
WORKFLOW_OLDEST_AGE = CATALOGUE.gauge(
    "promgithub_workflow_oldest_age_seconds",
    "Age of the oldest open workflow run that is queued, waiting or in progress.",
    WorkflowAgeLabels,
    SECONDS,
)
WORKFLOW_RERUNS = CATALOGUE.counter(
    "promgithub_workflow_reruns", "Workflow run attempts after the first one.", WorkflowRerunLabels
)
JOB_STATUS = CATALOGUE.counter(
    "promgithub_job_status", "Reported statuses of jobs; each status counts once per job.", JobStatusLabels
)
JOB_DURATION = CATALOGUE.histogram(
    "promgithub_job_duration_seconds",
    "Time from the start of a job to its completion, without jobs that never ran.",
    JobConclusionLabels,
    DURATION_BOUNDS,
)
JOB_QUEUE = CATALOGUE.histogram(
    "promgithub_job_queue_seconds",
    "Time that jobs waited for a runner, without the time before an approval.",
    JobQueueLabels,
    QUEUE_BOUNDS,
)
JOB_QUEUED = CATALOGUE.gauge("promgithub_job_queued", "Jobs waiting for a runner.", OpenJobLabels)
JOB_WAITING = CATALOGUE.gauge(
    "promgithub_job_waiting", "Jobs waiting for an approval, a deployment gate or a concurrency limit.", OpenJobLabels
)
JOB_IN_PROGRESS = CATALOGUE.gauge("promgithub_job_in_progress", "Jobs in progress.", OpenJobLabels)
JOB_OLDEST_AGE = CATALOGUE.gauge(
    "promgithub_job_oldest_age_seconds",
    "Age of the oldest open job that is queued, waiting or in progress.",
    JobAgeLabels,
    SECONDS,
)
JOB_BUSY = CATALOGUE.counter(
    "promgithub_job_busy_seconds", "Time that completed jobs occupied a runner.", JobRunnerLabels, SECONDS
)
JOB_BILLABLE = CATALOGUE.counter(
    "promgithub_job_billable_minutes",
    "Minutes of completed jobs, rounded up for each job, on runner classes with a price that applies.",
    JobRunnerLabels,
)
JOB_COST = CATALOGUE.counter(
    "promgithub_job_cost_usd",
    "Billable minutes of completed jobs at the price of their runner class.",
    JobRunnerLabels,
    USD,
)
JOB_FLAKY = CATALOGUE.counter(
    "promgithub_job_flaky",
    "Jobs that failed, and succeeded in a later attempt of the same run; each job name counts once per run.",
    JobFlakyLabels,
)
PUSHES = CATALOGUE.counter(
    "promgithub_push", "Pushes of branches and tags, including deletions, without ignored ones.", RepositoryLabels
)
PUSHES_IGNORED = CATALOGUE.counter(
    "promgithub_push_ignored",
    "Pushes that count neither as pushes nor with their commits, by reason, such as those of a merge queue.",
    ReasonLabels,
)
COMMITS = CATALOGUE.counter(
    "promgithub_commit_pushed", "Commits in pushes; GitHub lists at most 2,048 per push.", RepositoryLabels
)
PULL_REQUESTS = CATALOGUE.counter(
    "promgithub_pull_request",
    "Pull request events by action; closing by a merge counts as merged.",
    PullRequestLabels,
)
STALE = CATALOGUE.counter(
    "promgithub_stale",
    "Runs and jobs closed as stale, by reason; each counts once per reason.",
    StaleLabels,
    reported=True,
)
ANOMALIES = CATALOGUE.counter(
    "promgithub_anomaly",
    "Contradictory or uncountable data in deliveries, such as a job that ended before it started.",
    KindLabels,
    reported=True,
)
UNSETTLED = CATALOGUE.gauge(
    "promgithub_unsettled",
    "Pending increments, counted after no delivery about their run or job for GRACE.",
    KindLabels,
)
HELD = CATALOGUE.gauge(
    "promgithub_series_held", "New series that scrapers still see as 0, for NEW_SERIES_SECONDS.", NoLabels
)
UNREADABLE = CATALOGUE.gauge(
    "promgithub_series_unreadable", "Rows of the store that are omitted because they cannot be read.", NoLabels
)

EXPOSED = CATALOGUE.exposing((), {})
"""The metrics as they are exposed by default: without the optional labels."""
