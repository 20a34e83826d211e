"""Series of the store as lines, in both text formats, byte for byte as prometheus_client writes them. Pure.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import TypeVar

import msgspec
from prometheus_client.utils import floatToGoString

from processor.series import Metric
from processor.store.snapshot import CounterRow, HistogramRow
from shared.exposition import WrittenMetric

PIECE = 500
"""Series in a piece."""

_PLAIN = 1_000_000
"""From here on numbers are written with an exponent."""

_VALUES = msgspec.json.Decoder(tuple[str, ...])
_Row = TypeVar("_Row")


def label_values(labels: str) -> tuple[str, ...]:
    """Return the label values that are stored as a JSON array."""
    return _VALUES.decode(labels)


class WrittenCounter(WrittenMetric):
    """A counter of the store."""

    def __init__(self, metric: Metric, rows: Sequence[CounterRow]) -> None:
        """`rows`: the series, each once."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._labels = _labels(metric.labels)
        self._rows = rows

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with the time at which it began."""
        return _pieces(self._rows, self._with_created if openmetrics else self._total)

    def _total(self, row: CounterRow) -> str:
        labels, value, _ = row
        return f"{self.name}_total{{{self._labels(_escaped(labels))}}} {number(value)}\n"

    def _with_created(self, row: CounterRow) -> str:
        labels, value, created_at = row
        written = self._labels(_escaped(labels))
        total = f"{self.name}_total{{{written}}} {number(value)}\n"
        return f"{total}{self.name}_created{{{written}}} {seconds(created_at)}\n"


class WrittenHistogram(WrittenMetric):
    """A histogram of the store."""

    def __init__(self, metric: Metric, rows: Sequence[HistogramRow]) -> None:
        """`rows`: the series, each once."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._labels = _labels(metric.labels)
        self._around_bound = _labels((*metric.labels, "le"))
        self._bounds = (*(f"{bound}.0" for bound in metric.buckets), "+Inf")
        self._rows = rows

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with the time at which it began."""
        return _pieces(self._rows, self._with_created if openmetrics else self._distribution)

    def _distribution(self, row: HistogramRow) -> str:
        return self._lines(row, _escaped(row[0]))

    def _with_created(self, row: HistogramRow) -> str:
        values = _escaped(row[0])
        return f"{self._lines(row, values)}{self.name}_created{{{self._labels(values)}}} {seconds(row[2])}\n"

    def _lines(self, row: HistogramRow, values: tuple[str, ...]) -> str:
        _, sum_ms, _, buckets = row
        labels = self._labels(values)
        # No escaped value has a line break in it, so this one finds the place of the bound.
        before, after = self._around_bound((*values, "\n")).split("\n")
        counts = [number(count) for count in accumulate(buckets[: len(self._bounds)])]
        bound = f"{self.name}_bucket{{{before}"
        lines = [f"{bound}{le}{after}}} {count}\n" for le, count in zip(self._bounds, counts, strict=True)]
        lines.append(f"{self.name}_count{{{labels}}} {counts[-1]}\n")
        lines.append(f"{self.name}_sum{{{labels}}} {seconds(sum_ms)}\n")
        return "".join(lines)


class WrittenGauge(WrittenMetric):
    """A gauge that is counted from the store's open rows."""

    def __init__(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """`values`: by the label values."""
        super().__init__(metric.name, metric.help, metric.kind.value)
        self._labels = _labels(metric.labels)
        self._rows = list(values.items())

    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield each series."""
        return _pieces(self._rows, self._line)

    def _line(self, row: tuple[tuple[str, ...], float]) -> str:
        values, value = row
        return f"{self.name}{{{self._labels(tuple(map(_escape, values)))}}} {_go_string(value)}\n"


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


def _labels(names: Sequence[str]) -> Callable[[tuple[str, ...]], str]:
    """Return what writes escaped values as labels, sorted by name."""
    order = sorted(range(len(names)), key=names.__getitem__)
    pick = itemgetter(*order)
    template = ",".join(f'{names[place]}="%s"' for place in order)
    return lambda values: template % pick(values)


def _escaped(labels: str) -> tuple[str, ...]:
    """Return stored label values as they stand in a page."""
    values = label_values(labels)
    # JSON escapes everything that a page does, and also by a backslash.
    return tuple(map(_escape, values)) if "\\" in labels else values


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
