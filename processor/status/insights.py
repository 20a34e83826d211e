"""Computes the insights of a window from the sums by hour. Pure."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from processor.counting.catalogue import (
    JOB_BILLABLE,
    JOB_BUSY,
    JOB_COST,
    JOB_FLAKY,
    JOB_QUEUE,
    WORKFLOW_DURATION,
    WORKFLOW_STATUS,
)
from processor.counting.ci_metrics import Catalogue, CiHistogram
from processor.counting.hourly_sums import HOUR, INFINITE, HourlyLabels, Sums
from processor.status.quantiles import quantile
from processor.status.views import ClassInsight, Insights, Step, WorkflowInsight, moment

FAILED = frozenset({"failure", "timed_out", "startup_failure"})
"""The conclusions of a run that failed."""

CANCELLED = "cancelled"
SUCCEEDED = "success"


@dataclass(frozen=True, slots=True)
class Window:
    """A window that ends now: its name, its length and that of its steps, in hours."""

    name: str
    hours: int
    step: int


WINDOWS = {window.name: window for window in (Window("24h", 24, 1), Window("7d", 7 * 24, 6))}
"""The windows by name."""


_OBSERVED = frozenset({JOB_QUEUE.name, WORKFLOW_DURATION.name})


@dataclass(slots=True)
class _Sums:
    """Sums about one thing: of counters by metric, of runs by conclusion, of histograms by metric and bound (ms)."""

    counts: Counter[str] = field(default_factory=Counter)
    conclusions: Counter[str] = field(default_factory=Counter)
    buckets: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, labels: HourlyLabels, bound: int, value: int) -> None:
        if labels.metric == WORKFLOW_STATUS.name:
            self.conclusions[labels.conclusion] += value
        elif labels.metric in _OBSERVED:
            self.buckets[labels.metric][bound] += value
        else:
            self.counts[labels.metric] += value

    def observed(self, metric: CiHistogram[Any]) -> int:
        return self.buckets[metric.name].total()

    @property
    def runs(self) -> int:
        return self.conclusions.total()

    @property
    def failed(self) -> int:
        return sum(self.conclusions[conclusion] for conclusion in FAILED)


def insights(window: Window, sums: Sums, catalogue: Catalogue, most_workflows: int) -> Insights:
    """Return the insights of a window, which ends at the time of its sums.

    Percentiles use the buckets that `catalogue` exposes. The workflows with the most failed runs come first.
    """
    classes: defaultdict[str, _Sums] = defaultdict(_Sums)
    workflows: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
    for labels, bound, value in sums.by_labels:
        about = classes[labels.runner_class] if labels.runner_class else workflows[labels[1:3]]
        about.add(labels, bound, value)
    steps = {start: _Sums() for start in range(sums.began, sums.now + 1, window.step * HOUR)}
    for start, found in steps.items():
        for labels, bound, value in sums.by_step.get(start, ()):
            found.add(labels, bound, value)
    queue, duration = _quantiles(catalogue, JOB_QUEUE), _quantiles(catalogue, WORKFLOW_DURATION)
    by_workflow = [_workflow(*names, found, duration) for names, found in workflows.items()]
    by_workflow.sort(key=lambda one: (-one.failed, -one.runs, one.repository, one.workflow))
    by_class = [_class(name, found, queue) for name, found in classes.items()]
    return Insights(
        as_of=moment(sums.now),
        window=window.name,
        began=moment(sums.began),
        by_class=sorted(by_class, key=lambda one: (-one.busy_seconds, one.runner_class)),
        by_workflow=by_workflow[:most_workflows],
        workflows_total=len(by_workflow),
        steps=[
            Step(
                began=moment(start),
                jobs_started=found.observed(JOB_QUEUE),
                queue_p90_seconds=queue(0.9, found),
                runs=found.runs,
                failed=found.failed,
                busy_seconds=found.counts[JOB_BUSY.name] / JOB_BUSY.unit.scale,
            )
            for start, found in steps.items()
        ],
    )


_Quantiles = Callable[[float, _Sums], float | None]


def _quantiles(catalogue: Catalogue, metric: CiHistogram[Any]) -> _Quantiles:
    """Return a function that gives quantiles of a histogram in seconds, by its exposed buckets."""
    shown = catalogue.get(metric.name)
    exposed = shown.buckets if isinstance(shown, CiHistogram) else metric.buckets
    bounds = [bound / metric.unit.scale for bound in exposed]

    def of(q: float, sums: _Sums) -> float | None:
        return quantile(q, bounds, _by_exposed_bound(sums.buckets[metric.name], exposed))

    return of


def _by_exposed_bound(stored: Mapping[int, int], exposed: Sequence[int]) -> list[int]:
    counts = [0] * (len(exposed) + 1)
    for bound, count in stored.items():
        counts[len(exposed) if bound == INFINITE else bisect_left(exposed, bound)] += count
    return counts


def _class(name: str, found: _Sums, queue: _Quantiles) -> ClassInsight:
    return ClassInsight(
        runner_class=name,
        jobs_started=found.observed(JOB_QUEUE),
        queue_p50_seconds=queue(0.5, found),
        queue_p90_seconds=queue(0.9, found),
        queue_p99_seconds=queue(0.99, found),
        busy_seconds=found.counts[JOB_BUSY.name] / JOB_BUSY.unit.scale,
        billable_minutes=found.counts[JOB_BILLABLE.name],
        cost_usd=found.counts[JOB_COST.name] / JOB_COST.unit.scale,
    )


def _workflow(repository: str, workflow: str, found: _Sums, duration: _Quantiles) -> WorkflowInsight:
    succeeded, failed, cancelled = found.conclusions[SUCCEEDED], found.failed, found.conclusions[CANCELLED]
    return WorkflowInsight(
        repository=repository,
        workflow=workflow,
        runs=found.runs,
        succeeded=succeeded,
        failed=failed,
        cancelled=cancelled,
        failure_ratio=_ratio(failed, succeeded + failed),
        failure_ratio_with_cancelled=_ratio(failed + cancelled, succeeded + failed + cancelled),
        duration_p50_seconds=duration(0.5, found),
        duration_p90_seconds=duration(0.9, found),
        flaky_jobs=found.counts[JOB_FLAKY.name],
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
