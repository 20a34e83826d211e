"""From the store's snapshot to Prometheus families. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from processor.lifecycle import Phase
from processor.series import METRICS, OVERFLOW, cumulative
from processor.store.snapshot import CounterValue, HistogramValue, OpenCount, Snapshot

Names = tuple[str, str, str]
"""The label values repository, branch and workflow_name."""

_OVERFLOW_NAMES: Names = (OVERFLOW, OVERFLOW, OVERFLOW)


def families(snapshot: Snapshot, max_series: int) -> Iterator[Metric]:
    """Yield every metric of the store, in the order of their definition, with the time at which each series began.

    `max_series` bounds the gauges as it bounds the series in the store.
    """
    gauges = {
        metric: samples
        for subject, opened in (("workflow", snapshot.runs), ("job", snapshot.jobs))
        for metric, samples in _gauges(subject, opened, snapshot, max_series).items()
    }
    for name, metric in METRICS.items():
        if name in gauges:
            family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
            for labels, value in gauges[name].items():
                family.add_metric(labels, value)
            yield family
        elif metric.buckets:
            yield _histogram(name, [h for h in snapshot.histograms if h.series[0] == name])
        else:
            yield _counter(name, [c for c in snapshot.counters if c.series[0] == name])


def _counter(name: str, values: Iterable[CounterValue]) -> Metric:
    family = CounterMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)
    for counter in values:
        family.add_metric(counter.series[1], counter.value, created=counter.created_at / 1000)
    return family


def _histogram(name: str, values: Iterable[HistogramValue]) -> Metric:
    metric = METRICS[name]
    bounds = [*(f"{bound}.0" for bound in metric.buckets), "+Inf"]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for histogram in values:
        labels = histogram.series[1]
        counts = cumulative(histogram.buckets[: len(bounds)])
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), histogram.sum_ms / 1000)
        named = dict(zip(metric.labels, labels, strict=True))
        family.add_sample(f"{name}_created", named, histogram.created_at / 1000)
    return family


def _gauges(
    subject: str, opened: Sequence[OpenCount], snapshot: Snapshot, max_series: int
) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """Return the gauges of runs or jobs: 0 for every workflow and branch that was ever seen, unless some are open.

    What was seen is what the status counter has series for, so that a gauge goes to 0 when the last one closes and
    stays there until the series is dropped.
    """
    seen = {c.series[1][:3] for c in snapshot.counters if c.series[0] == f"promgithub_{subject}_status"}
    seen.discard(_OVERFLOW_NAMES)
    shown = _bounded(sorted(seen), opened, max_series)
    counts: dict[Phase, dict[tuple[str, ...], float]] = {p: dict.fromkeys(shown.values(), 0) for p in Phase}
    ages: dict[tuple[str, ...], float] = {(names[0], p.value): 0.0 for names in shown.values() for p in Phase}
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


def _bounded(seen: Iterable[tuple[str, ...]], opened: Iterable[OpenCount], max_series: int) -> dict[Names, Names]:
    """Return under which label values each workflow and branch is shown: the first `max_series` under their own."""
    names = dict.fromkeys([*seen, *sorted((row.repository, row.branch, row.workflow_name) for row in opened)])
    return {
        (repository, branch, workflow): (repository, branch, workflow) if place < max_series else _OVERFLOW_NAMES
        for place, (repository, branch, workflow) in enumerate(names)
    }
