"""Exemplars: the newest run or job that counts in a bucket of a histogram. Pure.

They are made at each scrape, from the rows that were closed in the last minutes, with the functions that count. Nothing
about them is stored. A flag says that a row was counted, but not under which names. If a name of a row has changed
since, its exemplar is in the series of the newest names, or in none if that series does not exist.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from processor.counting.all_subjects import SUBJECTS
from processor.counting.ci_metrics import Catalogue, CiHistogram, labels_text, named_labels
from processor.counting.flags import Flag
from processor.counting.snapshot import ClosedRow, Snapshot
from processor.counting.subjects import Row, Subject

WINDOW = 300_000
"""How old an exemplar may be, in milliseconds."""

MOST_DELAY = 60_000
"""Maximum time from the end of a run or job to its delivery, in milliseconds, for its exemplar to have the time of the
end. Otherwise it has the time of the delivery."""

LABELS = ("job_id", "run_id")
"""The labels of exemplars: those that a row has. OpenMetrics allows 128 characters for their names and values."""


class Exemplar(NamedTuple):
    """A run or job in a bucket; `at` is in Unix ms. The maximum is the newest.

    Prometheus takes the exemplars of a series only in this order: by time, then by value.
    """

    at: int
    milliseconds: int
    labels: tuple[tuple[str, int], ...]


SeriesExemplars: TypeAlias = Mapping[str, Mapping[int, Exemplar]]
"""The exemplars of a histogram: by the labels of the series as the store has them, and by the place of the bucket."""

_Candidate: TypeAlias = tuple[int, int, Any, ClosedRow]  # its time, its value, its key, itself
_Newest: TypeAlias = dict[tuple[CiHistogram[Any], tuple[str, ...]], dict[int, _Candidate]]


def exemplars(snapshot: Snapshot, catalogue: Catalogue) -> Mapping[str, SeriesExemplars]:
    """Return the newest exemplar of each exposed bucket, by the name of the histogram."""
    found: dict[str, dict[str, dict[int, Exemplar]]] = defaultdict(dict)
    for subject in SUBJECTS:
        for (metric, labels), newest in _newest(subject, snapshot, catalogue).items():
            series = found[metric.name].setdefault(_stored(metric, labels, catalogue), {})
            for place, (at, milliseconds, _, row) in newest.items():
                exemplar = Exemplar(at, milliseconds, _labels(subject, row))
                series[place] = max(exemplar, series.get(place, exemplar))
    return found


def _newest(subject: Subject[Any, Any], snapshot: Snapshot, catalogue: Catalogue) -> _Newest:
    """Return the newest row of a subject in each bucket.

    Every exemplar expires `WINDOW` after its own time, so the time of a bucket's exemplar never goes back.
    """
    found: _Newest = defaultdict(dict)
    bounds = {metric.name: metric.buckets for metric in catalogue if isinstance(metric, CiHistogram)}
    for row in snapshot.closed.get(subject.name, ()):
        at = None if row.known is None else _moment(subject.ended(row.known), row.closed_at)
        if row.flags & Flag.BACKFILLED:
            continue  # its observations may be in no series of the store
        if at is None or not snapshot.now - WINDOW <= at <= snapshot.now:
            continue
        for metric, labels, milliseconds in subject.observed(Row(row.known, row.flags)):
            if metric.name in bounds:
                buckets = found[metric, labels]
                place = bisect_left(bounds[metric.name], milliseconds)
                candidate, best = (at, milliseconds, row.key, row), buckets.get(place)
                if best is None or candidate > best:  # the keys differ, so the rows are not compared
                    buckets[place] = candidate
    return found


def _moment(ended: int | None, closed_at: int) -> int:
    """Return the time of an exemplar: the end by GitHub's clock, unless it is unknown or too far from the delivery."""
    return ended if ended is not None and 0 <= closed_at - ended <= MOST_DELAY else closed_at


def _stored(metric: CiHistogram[Any], labels: tuple[str, ...], catalogue: Catalogue) -> str:
    """Return the labels of a series as the store has them, without those that are not exposed."""
    exposed = catalogue.get(metric.name)
    hidden = exposed.hidden if exposed else ()
    return labels_text(named_labels(p for p in zip(metric.label_names, labels, strict=True) if p[0] not in hidden))


def _labels(subject: Subject[Any, Any], row: ClosedRow) -> tuple[tuple[str, int], ...]:
    ids = {**subject.links(row.known), **row.key._asdict()}
    return tuple((name, ids[name]) for name in LABELS if name in ids)
