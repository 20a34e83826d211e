"""The content of the store at one moment, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

CounterRow: TypeAlias = tuple[str, int, int, bool]
"""A series of a counter: labels as a JSON object, value, creation time (Unix ms), and whether it is held."""

HistogramRow: TypeAlias = tuple[str, int, int, Sequence[int], bool]
"""A series of a histogram: labels as a JSON object, sum (ms), creation time (Unix ms), the count of each stored bucket
including `+Inf` (not cumulative), and whether it is held."""


@dataclass(frozen=True, slots=True)
class OpenCount:
    """The number of open rows of a subject with the same labels and phase; `since` (Unix ms) is that of the oldest."""

    labels: tuple[str, ...]
    phase: str
    count: int
    since: int | None


class ClosedRow(NamedTuple):
    """A closed row of a subject: its key, its state (None if it cannot be read), its flags, and when it was closed.

    `closed_at` is in Unix ms, by the database's clock.
    """

    key: Any
    known: Any
    flags: int
    closed_at: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment (`now`, Unix ms, by the database's clock).

    `counters` and `histograms` are by metric name. `opened` has the open rows by subject name. `unsettled` has, by
    subject name, the number of rows with each set of pending increments (bits). `gauge_labels` has the labels for which
    gauges show 0, as JSON objects, by the prefix of the gauges' names. `closed` has the rows that may be exemplars, by
    subject name.
    """

    now: int
    counters: Mapping[str, Sequence[CounterRow]]
    histograms: Mapping[str, Sequence[HistogramRow]]
    opened: Mapping[str, Sequence[OpenCount]]
    unsettled: Mapping[str, Mapping[int, int]]
    gauge_labels: Mapping[str, Sequence[str]]
    closed: Mapping[str, Sequence[ClosedRow]] = field(default_factory=dict)
