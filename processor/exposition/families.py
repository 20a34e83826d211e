"""Turns the store's snapshot into metric families, which write their own samples. Pure.

A row that cannot be read is omitted and reported, so that it does not make the whole page fail.
docs/decisions/0012 explains why prometheus_client does not write them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from processor.counting.all_subjects import SUBJECTS
from processor.counting.catalogue import HELD, UNREADABLE, UNSETTLED
from processor.counting.ci_metrics import OVERFLOW, Catalogue, CiGauge, CiHistogram, CiMetric
from processor.counting.exemplars import SeriesExemplars, exemplars
from processor.counting.snapshot import CounterRow, HistogramRow, OpenCount, Snapshot
from processor.counting.states import Phase
from processor.counting.subjects import Gauges, Subject
from processor.exposition.text import LabelReader, StreamedCounter, StreamedGauge, StreamedHistogram
from shared.admin.exposition import StreamedFamily

Labels: TypeAlias = tuple[str, ...]

Report: TypeAlias = Callable[[str, str], None]
"""Called with the metric or table and the text of a row that cannot be read."""


def families(snapshot: Snapshot, max_series: int, catalogue: Catalogue, report: Report) -> Iterator[StreamedFamily]:
    """Yield every metric of the store in the catalogue's order; `max_series` limits the series of each gauge.

    The caller must write each family before it takes the next one: the last one has the number of unreadable rows.
    """
    unreadable: dict[Labels, float] = {(): 0}

    def count(where: str, what: str) -> None:
        unreadable[()] += 1
        report(where, what)

    gauges = _gauges(snapshot, max_series, count)
    shown = exemplars(snapshot, catalogue)
    for metric in catalogue:
        if metric is not UNREADABLE:
            yield _family(metric, gauges, snapshot, shown.get(metric.name, {}), count)
    if catalogue.get(UNREADABLE.name) is UNREADABLE:
        yield StreamedGauge(UNREADABLE, unreadable)


def _family(
    metric: CiMetric[Any],
    gauges: Mapping[CiGauge[Any], Mapping[Labels, float]],
    snapshot: Snapshot,
    shown: SeriesExemplars,
    report: Report,
) -> StreamedFamily:
    if isinstance(metric, CiGauge):
        return StreamedGauge(metric, gauges.get(metric, {}))
    reader = LabelReader(metric, report)
    if isinstance(metric, CiHistogram):
        return StreamedHistogram(metric, snapshot.histograms.get(metric.name, ()), reader, shown)
    return StreamedCounter(metric, snapshot.counters.get(metric.name, ()), reader)


def _gauges(snapshot: Snapshot, max_series: int, report: Report) -> dict[CiGauge[Any], Mapping[Labels, float]]:
    found: dict[CiGauge[Any], Mapping[Labels, float]] = {}
    unsettled: dict[Labels, float] = {}
    for subject in SUBJECTS:
        if subject.gauges is not None:
            found.update(_open_gauges(subject.gauges, subject, snapshot, max_series, report))
        for bit, kind in subject.pending_kinds.items():
            waiting = snapshot.unsettled.get(subject.name, {})
            unsettled[kind,] = sum(count for bits, count in waiting.items() if bits & bit)
    found[UNSETTLED] = unsettled
    found[HELD] = {(): _held(snapshot)}
    return found


def _held(snapshot: Snapshot) -> int:
    tables: tuple[Mapping[str, Sequence[CounterRow | HistogramRow]], ...] = snapshot.counters, snapshot.histograms
    return sum(row[-1] for table in tables for rows in table.values() for row in rows)


def _open_gauges(
    gauges: Gauges, subject: Subject[Any, Any], snapshot: Snapshot, max_series: int, report: Report
) -> Mapping[CiGauge[Any], Mapping[Labels, float]]:
    """Return the gauges of a subject: 0 for all labels under which something was open once, unless something is."""
    opened = [row for row in snapshot.opened.get(subject.name, ()) if _readable(row, gauges, subject, report)]
    reader = LabelReader(next(iter(gauges.phases.values())), report)
    remembered = [reader.values(labels) for labels in snapshot.gauge_labels.get(gauges.stem, ())]
    overflow = (OVERFLOW,) * len(gauges.label_names)
    shown = _bounded(sorted(labels for labels in remembered if labels is not None), opened, max_series, overflow)
    counts: dict[Phase, dict[Labels, float]] = {p: dict.fromkeys(shown.values(), 0) for p in gauges.phases}
    for row in opened:
        counts[Phase(row.phase)][shown[row.labels]] += row.count
    found: dict[CiGauge[Any], Mapping[Labels, float]] = {gauge: counts[p] for p, gauge in gauges.phases.items()}
    if gauges.age is not None:
        found[gauges.age] = _ages(gauges, shown, opened, snapshot.now)
    return found


def _ages(
    gauges: Gauges, shown: Mapping[Labels, Labels], opened: Sequence[OpenCount], now: int
) -> Mapping[Labels, float]:
    """Return the age (ms) of the oldest in each phase; 0 where nothing is open."""

    def age_labels(names: Labels, phase: str) -> Labels:
        return *(names[place] for place in gauges.age_labels), phase

    ages = {age_labels(names, p.value): 0.0 for names in shown.values() for p in gauges.phases}
    for row in opened:
        if row.since is not None:
            labels = age_labels(shown[row.labels], row.phase)
            ages[labels] = max(ages[labels], now - row.since)
    return ages


def _readable(row: OpenCount, gauges: Gauges, subject: Subject[Any, Any], report: Report) -> bool:
    if row.phase in gauges.phases and all(isinstance(label, str) for label in row.labels):
        return True
    report(subject.name, f"phase {row.phase!r}")
    return False


def _bounded(
    remembered: Iterable[Labels], opened: Sequence[OpenCount], max_series: int, overflow: Labels
) -> dict[Labels, Labels]:
    """Return the exposed labels for each set of labels: the first `max_series` keep theirs, others get the overflow."""
    names = dict.fromkeys([*remembered, *sorted(row.labels for row in opened)])
    return {own: own if place < max_series else overflow for place, own in enumerate(names)}
