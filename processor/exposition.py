"""From the store's snapshot to Prometheus families, which write themselves. Pure.

Why not by prometheus_client: docs/decisions/0012.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from processor.lifecycle import Phase
from processor.series import METRICS, OVERFLOW, Metric
from processor.store.snapshot import OpenCount, Snapshot
from processor.writing import WrittenCounter, WrittenGauge, WrittenHistogram, label_values
from shared.exposition import WrittenMetric

Names = tuple[str, ...]
"""The label values repository, branch and workflow_name."""

_OVERFLOW_NAMES: Names = (OVERFLOW, OVERFLOW, OVERFLOW)


def families(snapshot: Snapshot, max_series: int) -> Iterator[WrittenMetric]:
    """Yield every metric of the store, in the order of their definition, with the time at which each series began.

    `max_series` bounds the gauges as it bounds the series in the store.
    """
    gauges = {
        metric: samples
        for subject, opened in (("workflow", snapshot.runs), ("job", snapshot.jobs))
        for metric, samples in _gauges(subject, opened, snapshot, max_series).items()
    }
    for name, metric in METRICS.items():
        yield _family(metric, gauges.get(name), snapshot)


def _family(metric: Metric, gauge: Mapping[Names, float] | None, snapshot: Snapshot) -> WrittenMetric:
    if gauge is not None:
        return WrittenGauge(metric, gauge)
    if metric.buckets:
        return WrittenHistogram(metric, snapshot.histograms.get(metric.name, ()))
    return WrittenCounter(metric, snapshot.counters.get(metric.name, ()))


def _gauges(
    subject: str, opened: Sequence[OpenCount], snapshot: Snapshot, max_series: int
) -> Mapping[str, Mapping[Names, float]]:
    """Return the gauges of runs or jobs: 0 for every workflow and branch that was ever seen, unless some are open.

    What was seen is what the status counter has series for, so that a gauge goes to 0 when the last one closes and
    stays there until the series is dropped.
    """
    statuses = snapshot.counters.get(f"promgithub_{subject}_status", ())
    seen = {label_values(labels)[:3] for labels, _, _ in statuses}
    seen.discard(_OVERFLOW_NAMES)
    shown = _bounded(sorted(seen), opened, max_series)
    counts: dict[Phase, dict[Names, float]] = {p: dict.fromkeys(shown.values(), 0) for p in Phase}
    ages: dict[Names, float] = {(names[0], p.value): 0.0 for names in shown.values() for p in Phase}
    for row in opened:
        names = shown[row.repository, row.branch, row.workflow_name]
        counts[Phase(row.phase)][names] += row.count
        if row.since is not None:
            age = (names[0], row.phase)
            ages[age] = max(ages[age], (snapshot.now - row.since) / 1000)
    return {
        **{f"promgithub_{subject}_{p.value}": counts[p] for p in Phase},
        f"promgithub_{subject}_oldest_age_seconds": ages,
    }


def _bounded(seen: Iterable[Names], opened: Iterable[OpenCount], max_series: int) -> dict[Names, Names]:
    """Return under which label values each workflow and branch is shown: the first `max_series` under their own."""
    names = dict.fromkeys([*seen, *sorted((row.repository, row.branch, row.workflow_name) for row in opened)])
    return {own: own if place < max_series else _OVERFLOW_NAMES for place, own in enumerate(names)}
