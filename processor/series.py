"""Which metrics about CI exist, with their labels and buckets, and what bounds their label values.

Every metric that the store feeds is declared here and nowhere else; exposition and documentation are made from it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar

OVERFLOW = "__overflow__"
"""The value of every label of the series that takes what a full metric has no room for."""

OTHER_BRANCH = "other"
"""The branch label of every branch that is not kept."""

UNKNOWN = "unknown"
"""The label value for a name that GitHub did not send."""

LABEL_LENGTH = 16_384
"""Characters of a label value that are kept: far beyond any name on GitHub, and a bound all the same."""

QUEUE_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
"""Upper bounds in seconds for time spent waiting for a runner."""

DURATION_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
"""Upper bounds in seconds for time spent running."""


class Kind(Enum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"  # only grows
    GAUGE = "gauge"  # counted from the open runs and jobs at each scrape
    HISTOGRAM = "histogram"  # one observation a run or job


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: its name (without a counter's `_total`), what it says, its labels, and a histogram's buckets."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    buckets: tuple[int, ...] = ()


_WORKFLOW = ("repository", "branch", "workflow_name")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "promgithub_workflow_status",
            Kind.COUNTER,
            "Statuses that attempts of workflow runs were seen in, each once per attempt.",
            (*_WORKFLOW, "workflow_status", "conclusion"),
        ),
        Metric(
            "promgithub_workflow_duration_seconds",
            Kind.HISTOGRAM,
            "Time from the start of an attempt of a workflow run to its completion, waiting included.",
            (*_WORKFLOW, "conclusion"),
            DURATION_BUCKETS,
        ),
        Metric("promgithub_workflow_queued", Kind.GAUGE, "Workflow runs waiting for a runner.", _WORKFLOW),
        Metric(
            "promgithub_workflow_waiting",
            Kind.GAUGE,
            "Workflow runs held back by an approval, a deployment gate or a concurrency limit.",
            _WORKFLOW,
        ),
        Metric("promgithub_workflow_in_progress", Kind.GAUGE, "Workflow runs that are running.", _WORKFLOW),
        Metric(
            "promgithub_workflow_oldest_age_seconds",
            Kind.GAUGE,
            "Age of the oldest open workflow run that is queued, waiting or in progress.",
            ("repository", "workflow_status"),
        ),
        Metric(
            "promgithub_workflow_reruns",
            Kind.COUNTER,
            "Attempts of workflow runs after the first.",
            _WORKFLOW,
        ),
        Metric(
            "promgithub_job_status",
            Kind.COUNTER,
            "Statuses that jobs were seen in, each once per job.",
            (*_WORKFLOW, "job_status", "job_conclusion"),
        ),
        Metric(
            "promgithub_job_duration_seconds",
            Kind.HISTOGRAM,
            "Time that jobs ran, from start to completion; jobs that never ran are left out.",
            (*_WORKFLOW, "job_conclusion"),
            DURATION_BUCKETS,
        ),
        Metric(
            "promgithub_job_queue_seconds",
            Kind.HISTOGRAM,
            "Time from a job's creation to its start on a runner.",
            ("repository", "workflow_name", "runner_group"),
            QUEUE_BUCKETS,
        ),
        Metric("promgithub_job_queued", Kind.GAUGE, "Jobs waiting for a runner.", _WORKFLOW),
        Metric(
            "promgithub_job_waiting",
            Kind.GAUGE,
            "Jobs held back by an approval, a deployment gate or a concurrency limit.",
            _WORKFLOW,
        ),
        Metric("promgithub_job_in_progress", Kind.GAUGE, "Jobs that are running.", _WORKFLOW),
        Metric(
            "promgithub_job_oldest_age_seconds",
            Kind.GAUGE,
            "Age of the oldest open job that is queued, waiting or in progress.",
            ("repository", "job_status"),
        ),
        Metric("promgithub_push", Kind.COUNTER, "Pushes of branches and tags, deletions included.", ("repository",)),
        Metric(
            "promgithub_commit_pushed",
            Kind.COUNTER,
            "Commits in pushes; GitHub lists at most 2,048 of a push.",
            ("repository",),
        ),
        Metric(
            "promgithub_pull_request",
            Kind.COUNTER,
            "Pull request events by action; a close that merged counts as merged.",
            ("repository", "base_branch", "pull_request_status"),
        ),
        Metric(
            "promgithub_stale",
            Kind.COUNTER,
            "Runs and jobs closed because their end was never heard of.",
            ("kind", "reason"),
        ),
        Metric(
            "promgithub_anomaly",
            Kind.COUNTER,
            "Facts that cannot be true or counted, such as a job that ended before it started.",
            ("kind",),
        ),
    )
}

Series = tuple[str, tuple[str, ...]]
"""A series: the metric's name and its label values, in the order of `Metric.labels`."""


_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Tally:
    """What to add to the series: counters by how much, histograms which observations (milliseconds) how often."""

    counts: dict[Series, int] = field(default_factory=dict)
    observations: dict[tuple[Series, int], int] = field(default_factory=dict)

    def count(self, metric: str, *labels: str, by: int = 1) -> None:
        """Add `by` to a counter."""
        _add(self.counts, (metric, labels), by)

    def observe(self, metric: str, *labels: str, milliseconds: int) -> None:
        """Add one observation to a histogram."""
        _add(self.observations, ((metric, labels), milliseconds), 1)

    def add(self, other: "Tally", times: int = 1) -> None:
        """Add another tally; `times` -1 takes it away again. What cancels out disappears."""
        for series, by in other.counts.items():
            _add(self.counts, series, by * times)
        for observation, by in other.observations.items():
            _add(self.observations, observation, by * times)


def _add(sums: dict[_Key, int], key: _Key, by: int) -> None:
    total = sums.get(key, 0) + by
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)


def bucket_index(metric: str, milliseconds: int) -> int:
    """Return which bucket of a histogram an observation falls into; one past the last bound stands for +Inf."""
    buckets = METRICS[metric].buckets
    return next((i for i, bound in enumerate(buckets) if milliseconds <= bound * 1000), len(buckets))


def fingerprint(*parts: object) -> bytes:
    """Return 16 bytes that stand for `parts`: label values may be longer than an index can hold."""
    return blake2b(repr(parts).encode(), digest_size=16).digest()


def clean(text: str) -> str:
    """Return `text` as a label value: without NUL (PostgreSQL stores none) and of bounded length."""
    return text[:LABEL_LENGTH].replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class BranchPolicy:
    """Which branches keep their name as a label value.

    `pattern` is a regular expression that must match the whole name; `<default>` in it stands for the repository's
    default branch.
    """

    pattern: str
    _matcher: Callable[[str | None], re.Pattern[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile once per default branch, for the most recent 1,024 of them."""
        object.__setattr__(self, "_matcher", lru_cache(maxsize=1024)(self._compile))

    def _compile(self, default_branch: str | None) -> re.Pattern[str]:
        default = "(?!)" if default_branch is None else re.escape(default_branch)
        return re.compile(self.pattern.replace("<default>", default))

    def label(self, branch: str, default_branch: str | None) -> str:
        """Return the label value for `branch` of a repository with this default branch (None: not known)."""
        return clean(branch) if self._matcher(default_branch).fullmatch(branch) else OTHER_BRANCH


def cumulative(buckets: Iterator[int] | list[int] | tuple[int, ...]) -> list[int]:
    """Turn counts per bucket into Prometheus' counts of everything up to each bound."""
    total, sums = 0, []
    for count in buckets:
        total += count
        sums.append(total)
    return sums
