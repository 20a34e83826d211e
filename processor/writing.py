"""Series of the store as lines, in both text formats, byte for byte as prometheus_client writes them. Pure.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import TypeAlias, TypeVar

import msgspec
from prometheus_client.utils import floatToGoString

from processor.series import Metric
from processor.store.snapshot import CounterRow, HistogramRow
from shared.exposition import WrittenMetric

PIECE = 200
"""Series in a piece: some 50 kB, of histograms ten times as much."""

_PLAIN = 1_000_000
"""From here on numbers are written with an exponent."""

_VALUES = msgspec.json.Decoder(tuple[str, ...])
_Row = TypeVar("_Row")
_Values: TypeAlias = tuple[str, ...]


def label_values(labels: str) -> _Values:
    """Return the label values that are stored as a JSON array."""
    return _VALUES.decode(labels)


class WrittenCounter(WrittenMetric):
    """A counter of the store."""

    def __init__(self, metric: Metric, rows: Sequence[CounterRow]) -> None:
        """`rows`: the series, each once."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._sorted, labels = _labels(metric.labels)
        self._total = f"{metric.name}_total{labels} %s\n"
        self._created = f"{metric.name}_created{labels} %s\n"
        self._rows = rows

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with the time at which it began."""
        return _pieces(self._rows, self._both if openmetrics else self._plain)

    def _plain(self, row: CounterRow) -> str:
        labels, value, _ = row
        return self._total % (*self._sorted(_escaped(labels)), number(value))

    def _both(self, row: CounterRow) -> str:
        labels, value, created_at = row
        values = self._sorted(_escaped(labels))
        return self._total % (*values, number(value)) + self._created % (*values, seconds(created_at))


class WrittenHistogram(WrittenMetric):
    """A histogram of the store."""

    def __init__(self, metric: Metric, rows: Sequence[HistogramRow]) -> None:
        """`rows`: the series, each once."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._sorted, labels = _labels(metric.labels)
        self._summed = f"{metric.name}_count{labels} %s\n{metric.name}_sum{labels} %s\n"
        self._created = f"{metric.name}_created{labels} %s\n"
        self._sorted_with_bound, labels = _labels((*metric.labels, "le"))
        self._bucket = f"{metric.name}_bucket{labels} "
        self._bounds = (*(f"{bound}.0" for bound in metric.buckets), "+Inf")
        self._rows = rows

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with the time at which it began."""
        return _pieces(self._rows, self._all if openmetrics else self._plain)

    def _plain(self, row: HistogramRow) -> str:
        return self._distribution(row, _escaped(row[0]))

    def _all(self, row: HistogramRow) -> str:
        values = _escaped(row[0])
        return self._distribution(row, values) + self._created % (*self._sorted(values), seconds(row[2]))

    def _distribution(self, row: HistogramRow, values: _Values) -> str:
        _, sum_ms, _, buckets = row
        # No escaped value has a line break in it, so this one finds the place of the bound.
        before, after = (self._bucket % self._sorted_with_bound((*values, "\n"))).split("\n")
        sums = list(accumulate(buckets[: len(self._bounds)]))
        # The last is the largest: if that needs no exponent, none does.
        counts, end = (sums, ".0") if sums[-1] < _PLAIN else (map(number, sums), "")
        lines = f"\n{before}".join([f"{le}{after}{n}{end}" for le, n in zip(self._bounds, counts, strict=True)])
        own = self._sorted(values)
        return f"{before}{lines}\n" + self._summed % (*own, number(sums[-1]), *own, seconds(sum_ms))


class WrittenGauge(WrittenMetric):
    """A gauge that is counted from the store's open rows."""

    def __init__(self, metric: Metric, values: Mapping[_Values, float]) -> None:
        """`values`: by the label values."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._sorted, labels = _labels(metric.labels)
        self._line = f"{metric.name}{labels} %s\n"
        self._rows = list(values.items())

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series."""
        return _pieces(self._rows, self._plain)

    def _plain(self, row: tuple[_Values, float]) -> str:
        values, value = row
        return self._line % (*self._sorted(tuple(map(_escape, values))), _go_string(value))


def number(value: int) -> str:
    """Write an integer as the float that every sample is; `floatToGoString` with a short cut."""
    return f"{value}.0" if 0 <= value < _PLAIN else _go_string(value)


def seconds(milliseconds: int) -> str:
    """Write milliseconds as seconds; `floatToGoString` with a short cut for the moments from 2001 to 2286."""
    digits = str(milliseconds)
    if len(digits) == 13 and milliseconds > 0:
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + "e+09"
    return _go_string(milliseconds / 1000)


def _go_string(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _pieces(rows: Sequence[_Row], write: Callable[[_Row], str]) -> Iterator[str]:
    for start in range(0, len(rows), PIECE):
        yield "".join(map(write, rows[start : start + PIECE]))


def _labels(names: Sequence[str]) -> tuple[Callable[[_Values], _Values], str]:
    """Return what sorts label values by their names, and a template that takes them so."""
    order = sorted(range(len(names)), key=names.__getitem__)
    template = ",".join(f'{names[place]}="%s"' for place in order)
    # Of one place, `itemgetter` would return what is there, and not a tuple.
    return itemgetter(*order) if len(order) > 1 else tuple, f"{{{template}}}"


def _escaped(labels: str) -> _Values:
    """Return stored label values as they stand in a page."""
    values = label_values(labels)
    # JSON escapes everything that a page does, and also by a backslash.
    return tuple(map(_escape, values)) if "\\" in labels else values


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
