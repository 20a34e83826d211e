"""Writes series of the store in both text formats, with exactly the same bytes as prometheus_client. Pure.

The formats: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from operator import itemgetter
from typing import Any, TypeAlias, TypeVar

import msgspec
from prometheus_client.utils import floatToGoString

from processor.counting.catalogue import STORED_BOUNDS
from processor.counting.ci_metrics import CiHistogram, CiMetric
from processor.counting.exemplars import Exemplar, SeriesExemplars
from processor.counting.snapshot import CounterRow, HistogramRow
from shared.admin.exposition import StreamedFamily

PIECE = 20
"""Number of series in a piece: about 5 kB for counters, 50 kB for histograms, which the CPU's cache can hold."""

_PLAIN = 1_000_000
"""Numbers from this value on are written with an exponent."""

_NO_SERIES: SeriesExemplars = {}
_NO_BUCKETS: Mapping[int, Exemplar] = {}

_AFTER = "\0"
"""In a template of buckets, the place of what follows the bound."""

_Row = TypeVar("_Row")
_Values: TypeAlias = tuple[str, ...]


class LabelReader:
    """Reads the stored labels of one metric. A missing label is empty. Unreadable labels are passed to `report`."""

    def __init__(self, metric: CiMetric[Any], report: Callable[[str, str], None]) -> None:
        self._name = metric.name
        self._labels = _labels_decoder(metric.label_names, strict=False)
        self._sorted = _labels_decoder(tuple(sorted(metric.label_names)), strict=True)
        self._report = report

    def values(self, labels: str) -> _Values | None:
        """Return the values in the order of the metric's labels, or None if they cannot be read.

        Labels that the metric does not have are omitted.
        """
        return self._read(labels, self._labels)

    def escaped(self, labels: str) -> _Values | None:
        """Return the escaped values in the order of the label names, or None if they cannot be read.

        A series with a label that the metric does not have counts as unreadable until it is merged, because several
        such series may have the same remaining labels.
        """
        values = self._read(labels, self._sorted)
        # JSON escapes all characters that the text formats escape, also with a backslash.
        return values if values is None or "\\" not in labels else tuple(map(_escape, values))

    def _read(self, labels: str, decoder: msgspec.json.Decoder[msgspec.Struct]) -> _Values | None:
        try:
            return msgspec.structs.astuple(decoder.decode(labels))
        except (msgspec.MsgspecError, RecursionError):
            self._report(self._name, labels)
            return None


@cache
def _labels_decoder(names: tuple[str, ...], *, strict: bool) -> msgspec.json.Decoder[msgspec.Struct]:
    """Return a decoder of stored labels; a strict one rejects labels with other names."""
    fields = [(name, str, "") for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("_Labels", fields, forbid_unknown_fields=strict, gc=False))


class StreamedCounter(StreamedFamily):
    """A counter of the store."""

    def __init__(self, metric: CiMetric[Any], rows: Sequence[CounterRow], reader: LabelReader) -> None:
        """`rows` has each series once."""
        super().__init__(metric.name, metric.help, metric.prometheus_type)
        self._labels = _template(sorted(metric.label_names))
        self._rows = rows
        self._reader = reader
        self._scale = metric.unit.scale

    def lines(self, *, openmetrics: bool, to_scraper: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with the time at which it began. To a scraper, a held series is 0."""
        rows = [_zero(row) if row[3] else row for row in self._rows] if to_scraper else self._rows
        return _pieces(rows, self._both if openmetrics else self._plain)

    def _plain(self, row: CounterRow) -> str:
        values = self._reader.escaped(row[0])
        return "" if values is None else f"{self.name}_total{self._labels % values} {scaled(row[1], self._scale)}\n"

    def _both(self, row: CounterRow) -> str:
        labels, value, created_at, _ = row
        values = self._reader.escaped(labels)
        if values is None:
            return ""
        own = self._labels % values
        return f"{self.name}_total{own} {scaled(value, self._scale)}\n{self.name}_created{own} {seconds(created_at)}\n"


class StreamedHistogram(StreamedFamily):
    """A histogram of the store, with the buckets that the metric exposes."""

    def __init__(
        self,
        metric: CiHistogram[Any],
        rows: Sequence[HistogramRow],
        reader: LabelReader,
        exemplars: SeriesExemplars = _NO_SERIES,
    ) -> None:
        """`rows` has each series once."""
        super().__init__(metric.name, metric.help, metric.prometheus_type)
        labels = sorted(metric.label_names)
        self._labels = _template(labels)
        with_bound = sorted([*labels, "le"])
        self._place = with_bound.index("le")
        bucket = f"{metric.name}_bucket{_template(with_bound)} ".split("%s")
        self._before = "%s".join(bucket[: self._place + 1])
        self._after = "%s".join(bucket[self._place + 1 :])
        bounds = (*(_go_string(bound / 1000) for bound in metric.buckets), "+Inf")
        self._small = "\n".join(f"{bound}{_AFTER}%d.0" for bound in bounds)
        self._large = "\n".join(f"{bound}{_AFTER}%s" for bound in bounds)
        places = [STORED_BOUNDS.index(bound) for bound in metric.buckets]
        self._exposed = itemgetter(*places, len(STORED_BOUNDS))
        self._rows = rows
        self._reader = reader
        self._exemplars = exemplars

    def lines(self, *, openmetrics: bool, to_scraper: bool) -> Iterator[str]:
        """Yield each series, in OpenMetrics with its exemplars and the time at which it began.

        To a scraper, a held series is 0.
        """
        rows = [_empty(row) if row[4] else row for row in self._rows] if to_scraper else self._rows
        return _pieces(rows, self._all if openmetrics else self._plain)

    def _plain(self, row: HistogramRow) -> str:
        values = self._reader.escaped(row[0])
        return "" if values is None else self._distribution(row, values, self._labels % values, _NO_BUCKETS)

    def _all(self, row: HistogramRow) -> str:
        values = self._reader.escaped(row[0])
        if values is None:
            return ""
        own = self._labels % values
        exemplars = self._exemplars.get(row[0], _NO_BUCKETS)
        return f"{self._distribution(row, values, own, exemplars)}{self.name}_created{own} {seconds(row[2])}\n"

    def _distribution(self, row: HistogramRow, values: _Values, own: str, exemplars: Mapping[int, Exemplar]) -> str:
        """Return the buckets, the count and the sum; `own` has the labels without the bound."""
        _, sum_ms, _, stored, _ = row
        sums = self._exposed(list(accumulate(stored)))
        # The last count is the largest: if it needs no exponent, none does.
        buckets = self._small % sums if sums[-1] < _PLAIN else self._large % tuple(map(number, sums))
        if exemplars:
            buckets = _with_exemplars(buckets, sums, exemplars)
        before = self._before % values[: self._place]
        # Escaped values contain no line break, so only bounds follow one.
        buckets = buckets.replace(_AFTER, self._after % values[self._place :]).replace("\n", f"\n{before}")
        name = self.name
        return f"{before}{buckets}\n{name}_count{own} {number(sums[-1])}\n{name}_sum{own} {seconds(sum_ms)}\n"


class StreamedGauge(StreamedFamily):
    """A gauge that is computed at each scrape."""

    def __init__(self, metric: CiMetric[Any], values: Mapping[_Values, float]) -> None:
        """`values` has the values in stored units, by label values in the metric's order."""
        super().__init__(metric.name, metric.help, metric.prometheus_type)
        names = metric.label_names
        self._order = sorted(range(len(names)), key=names.__getitem__)
        self._line = f"{metric.name}{_template(sorted(names))} %s\n"
        self._values = values
        self._scale = metric.unit.scale

    def lines(self, *, openmetrics: bool, to_scraper: bool) -> Iterator[str]:
        """Yield each series."""
        return _pieces(list(self._values.items()), self._plain)

    def _plain(self, row: tuple[_Values, float]) -> str:
        values, value = row
        escaped = (_escape(values[place]) for place in self._order)
        return self._line % (*escaped, _go_string(value / self._scale))


def number(value: int) -> str:
    """Write an integer as a float: a faster `floatToGoString`."""
    return f"{value}.0" if 0 <= value < _PLAIN else _go_string(value)


def scaled(value: int, scale: int) -> str:
    """Write a stored value, divided by the scale of its unit."""
    return number(value) if scale == 1 else _go_string(value / scale)


def seconds(milliseconds: int) -> str:
    """Write milliseconds as seconds: `floatToGoString`, but faster for 11 days and for times from 2001 to 2286."""
    if 0 <= milliseconds < _PLAIN * 1000:
        return repr(milliseconds / 1000)
    digits = str(milliseconds)
    if len(digits) == 13 and milliseconds > 0:
        return f"{digits[0]}.{digits[1:]}".rstrip("0.") + "e+09"
    return _go_string(milliseconds / 1000)


def _with_exemplars(buckets: str, sums: Sequence[int], exemplars: Mapping[int, Exemplar]) -> str:
    """Add exemplars to the lines of buckets, by place; `sums` has their cumulative counts."""
    lines = buckets.split("\n")
    for place, exemplar in exemplars.items():
        # A bucket without observations has no exemplar, such as that of a held series.
        if sums[place] > (sums[place - 1] if place else 0):
            lines[place] += _exemplar(exemplar)
    return "\n".join(lines)


def _exemplar(exemplar: Exemplar) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in exemplar.labels)
    return f" # {{{labels}}} {seconds(exemplar.milliseconds)} {exemplar.at / 1000}"


def _go_string(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _zero(row: CounterRow) -> CounterRow:
    labels, _, created_at, held = row
    return labels, 0, created_at, held


def _empty(row: HistogramRow) -> HistogramRow:
    labels, _, created_at, stored, held = row
    return labels, 0, created_at, (0,) * len(stored), held


def _pieces(rows: Sequence[_Row], write: Callable[[_Row], str]) -> Iterator[str]:
    for start in range(0, len(rows), PIECE):
        yield "".join(map(write, rows[start : start + PIECE]))


def _template(names: Sequence[str]) -> str:
    """Return a template that takes the values of these labels."""
    return "{" + ",".join(f'{name}="%s"' for name in names) + "}" if names else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
