"""Quantiles of histograms, as PromQL computes them. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


def quantile(q: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """Return what `histogram_quantile(q, …)` returns for a histogram, or None if it has no observations.

    `bounds` has the upper bounds, all positive and without +Inf, and `counts` the observations of each bucket, not
    cumulative, with those over the last bound at the end. The value is interpolated within its bucket
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).
    """
    reached = list(accumulate(counts))
    if not reached or not reached[-1]:
        return None
    rank = q * reached[-1]
    place = bisect_left(reached, rank)
    if place >= len(bounds):
        return bounds[-1]
    below = reached[place - 1] if place else 0
    start = bounds[place - 1] if place else 0.0
    return start + (bounds[place] - start) * (rank - below) / counts[place]
