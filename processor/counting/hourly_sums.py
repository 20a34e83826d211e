"""The sums of some metrics by hour, from which the last day and week are shown. Pure.

They are parts of the same tally as the series, with fewer labels. Therefore the sum over some hours is exactly what the
counters of these metrics have grown by.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from processor.counting.catalogue import (
    JOB_BILLABLE,
    JOB_BUSY,
    JOB_COST,
    JOB_FLAKY,
    JOB_QUEUE,
    STORED_BOUNDS,
    WORKFLOW_DURATION,
    WORKFLOW_STATUS,
)
from processor.counting.ci_metrics import OVERFLOW, Series

HOUR = 3_600_000
"""An hour in milliseconds."""

INFINITE = -1
"""The bound of observations above all stored bounds."""

NO_BOUND = 0
"""The bound of a counter's sum."""

SUMMED = frozenset(
    metric.name
    for metric in (JOB_BILLABLE, JOB_BUSY, JOB_COST, JOB_FLAKY, JOB_QUEUE, WORKFLOW_DURATION, WORKFLOW_STATUS)
)
"""The names of the metrics that are summed by hour."""

STEPPED = frozenset(metric.name for metric in (JOB_BUSY, JOB_QUEUE, WORKFLOW_STATUS))
"""The names of those that are also shown by step of a window."""


class HourlyLabels(NamedTuple):
    """What a sum is about. Labels that the metric does not have, or that are not kept, are empty."""

    metric: str
    repository: str
    workflow_name: str
    runner_class: str
    conclusion: str


class HourlySum(NamedTuple):
    """A sum: its labels, and the upper bound (ms) of the histogram's bucket, or `NO_BOUND`, or `INFINITE`."""

    labels: HourlyLabels
    bound: int


class Sum(NamedTuple):
    """A sum over some hours: what it is about, the bucket's bound (ms), and the sum."""

    labels: HourlyLabels
    bound: int
    value: int


class Sums(NamedTuple):
    """The sums of a window from `began` to `now` (Unix ms).

    `by_labels` has those of the whole window. `by_step` has those of the metrics `STEPPED` in each step, by its start
    (Unix ms), with no labels but metric and conclusion.
    """

    began: int
    now: int
    by_labels: Sequence[Sum]
    by_step: Mapping[int, Sequence[Sum]]


def hourly_sums(counts: Mapping[Series, int], buckets: Mapping[Series, Sequence[int]]) -> Mapping[HourlySum, int]:
    """Return the sums in the increments of a batch: of counters, and of histograms by stored bucket."""
    sums: Counter[HourlySum] = Counter()
    for series, by in counts.items():
        labels = _labels(series)
        if labels is not None:
            sums[HourlySum(labels, NO_BOUND)] += by
    for series, times in buckets.items():
        labels = _labels(series)
        if labels is not None:
            for bound, count in zip((*STORED_BOUNDS, INFINITE), times, strict=True):
                if count:
                    sums[HourlySum(labels, bound)] += count
    return sums


@lru_cache(maxsize=65_536)
def _labels(series: Series) -> HourlyLabels | None:
    metric, values = series
    if metric.name not in SUMMED:
        return None
    named = dict(zip(metric.label_names, values, strict=True))
    if metric is WORKFLOW_STATUS and named["workflow_status"] not in {"completed", OVERFLOW}:
        return None
    return HourlyLabels(
        metric.name,
        named["repository"],
        named["workflow_name"],
        named.get("runner_class", ""),
        named["conclusion"] if metric is WORKFLOW_STATUS else "",
    )
