"""The classes of CI metrics (counter, gauge, histogram), and the tally that collects their increments. Pure.

The labels of a metric are a named tuple; its field names are the label names. A wrong label set is therefore a type
error. The store has integers; `/metrics` shows them divided by the scale of the unit.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import msgspec

from processor.counting.fingerprints import Fingerprint, fingerprint

OVERFLOW = "__overflow__"
"""Label value of the overflow series, which takes increments once a metric has reached MAX_SERIES."""

L = TypeVar("L", bound=tuple[str, ...])

_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit. A stored value divided by `scale` is the exposed value."""

    scale: int


ONE = Unit(1)
"""No unit."""

SECONDS = Unit(1000)
"""Seconds, stored in milliseconds."""

USD = Unit(1_000_000)
"""US dollars, stored in millionths."""


@dataclass(frozen=True, slots=True, eq=False)
class CiMetric(Generic[L]):
    """The base of all CI metrics. `name` does not include the `_total` of a counter."""

    prometheus_type: ClassVar[str]

    name: str
    help: str
    labels: type[L]
    unit: Unit = ONE
    hidden: frozenset[str] = frozenset()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names, in the order of `labels`, without the hidden ones."""
        names = cast(tuple[str, ...], self.labels._fields)  # type: ignore[attr-defined]
        return tuple(name for name in names if name not in self.hidden) if self.hidden else names

    @property
    def optional_names(self) -> frozenset[str]:
        """The names of the labels that only the setting LABELS switches on: those with a default."""
        return frozenset(self.labels._field_defaults)  # type: ignore[attr-defined]

    def overflow(self) -> "Series":
        """Return the overflow series, which takes increments once the metric has reached MAX_SERIES."""
        optional = self.optional_names
        return self, tuple("" if name in optional else OVERFLOW for name in self.label_names)


Series: TypeAlias = tuple[CiMetric[Any], tuple[str, ...]]
"""A metric and the values of its labels, in the order of `label_names`."""


@dataclass(frozen=True, slots=True)
class Report:
    """An increment of a `reported` counter, for the log: the counter's name, its labels, and what it is about."""

    metric: str
    labels: dict[str, str]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """Increments: an amount per series of a counter, and a number per observed value of a histogram (stored units)."""

    counts: Counter[Series] = field(default_factory=Counter)
    observations: Counter[tuple[Series, int]] = field(default_factory=Counter)
    reports: list[Report] = field(default_factory=list, compare=False)
    """The increments of reported counters, in the order of counting."""

    def series(self) -> set[Series]:
        """Return every series that the tally increments."""
        return {*self.counts, *(series for series, _ in self.observations)}

    def add(self, other: "Tally") -> None:
        """Add another tally."""
        self.counts.update(other.counts)
        self.observations.update(other.observations)
        self.reports.extend(other.reports)

    def name_reports(self, first: int, about: Mapping[str, Any]) -> None:
        """Set what the reports from the index `first` on are about."""
        self.reports[first:] = [replace(report, about=about) for report in self.reports[first:]]


@dataclass(frozen=True, slots=True, eq=False)
class CiCounter(CiMetric[L]):
    """A counter. If `reported`, its increments are logged, with the run or job that they are about."""

    prometheus_type = "counter"

    reported: bool = False

    def inc(self, tally: Tally, labels: L, by: int = 1) -> None:
        """Add `by`, in stored units, to one series. Adding 0 does not create the series."""
        if by:
            tally.counts[self, labels] += by
        if self.reported:
            tally.reports.append(Report(self.name, dict(zip(self.label_names, labels, strict=True))))


@dataclass(frozen=True, slots=True, eq=False)
class CiHistogram(CiMetric[L]):
    """A histogram of times. `buckets` has its upper bounds in milliseconds, a subset of `STORED_BOUNDS`."""

    prometheus_type = "histogram"

    unit: Unit = SECONDS
    buckets: tuple[int, ...] = ()

    def observe(self, tally: Tally, labels: L, *, milliseconds: int) -> None:
        """Add one observation to one series."""
        tally.observations[(self, labels), milliseconds] += 1


@dataclass(frozen=True, slots=True, eq=False)
class CiGauge(CiMetric[L]):
    """A gauge, computed at each scrape from the open rows and the pending increments."""

    prometheus_type = "gauge"


class Catalogue:
    """The metrics of one release by name, in the order of their declaration."""

    def __init__(self) -> None:
        self._metrics: dict[str, CiMetric[Any]] = {}

    def counter(
        self, name: str, text: str, labels: type[L], unit: Unit = ONE, *, reported: bool = False
    ) -> CiCounter[L]:
        """Declare a counter; `text` is its help."""
        return self._add(CiCounter(name, text, labels, unit, reported=reported))

    def gauge(self, name: str, text: str, labels: type[L], unit: Unit = ONE) -> CiGauge[L]:
        """Declare a gauge."""
        return self._add(CiGauge(name, text, labels, unit))

    def histogram(self, name: str, text: str, labels: type[L], buckets: tuple[int, ...]) -> CiHistogram[L]:
        """Declare a histogram of times with these bounds in milliseconds."""
        return self._add(CiHistogram(name, text, labels, SECONDS, buckets=buckets))

    def get(self, name: str) -> CiMetric[Any] | None:
        """Return the metric with this name, or None if this release does not have it."""
        return self._metrics.get(name)

    def exposing(self, labels: Collection[str], buckets: Mapping[tuple[int, ...], tuple[int, ...]]) -> "Catalogue":
        """Return the catalogue that exposes only these of the optional labels, and other buckets.

        `buckets` has the bounds to expose (ms) by the declared ones. Both change only what is exposed and merged.
        """
        exposed = Catalogue()
        for metric in self:
            hidden = metric.optional_names.difference(labels)
            shown = replace(metric, hidden=hidden) if hidden else metric
            if isinstance(shown, CiHistogram):
                shown = replace(shown, buckets=buckets.get(shown.buckets, shown.buckets))
            exposed._add(shown)
        return exposed

    def __iter__(self) -> Iterator[CiMetric[Any]]:
        return iter(self._metrics.values())

    def _add(self, metric: "M") -> "M":
        if metric.name in self._metrics:
            raise ValueError(f"{metric.name} is declared twice")
        self._metrics[metric.name] = metric
        return metric


M = TypeVar("M", bound=CiMetric[Any])


def named_labels(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return labels by name, sorted and without empty ones, because an empty label means no label."""
    return {name: value for name, value in sorted(labels) if value}


def labels_text(named: dict[str, str]) -> str:
    """Return labels as the store has them, as a JSON object; `named` is the result of `named_labels`."""
    return _ENCODER.encode(named).decode()


def series_key(metric: str, labels: dict[str, str]) -> Fingerprint:
    """Return the key of a series in the store; `labels` is the result of `named_labels`."""
    return fingerprint(metric, *labels.items())
