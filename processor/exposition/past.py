"""Writes what a backfill counted as OpenMetrics with time stamps, for `promtool tsdb create-blocks-from`. Pure.

Each series is cumulative from 0. It has a sample at the end of every step of the `AROUND` before and after a change,
and one at the end of the file. Everywhere else it does not change, and samples would make the file many times larger.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processor.counting.catalogue import STORED_BOUNDS
from processor.counting.ci_metrics import CiCounter, CiHistogram, CiMetric
from processor.counting.hourly_sums import INFINITE, NO_BOUND
from processor.counting.past import STEP, SUM, Changes
from processor.exposition.text import LabelReader, StreamedCounter, StreamedHistogram
from shared.admin.exposition import StreamedFamily

AROUND = 3_600_000
"""How long before and after a change a series has a sample at each step, in milliseconds. A multiple of `STEP`."""

END = "# EOF\n"
"""The last line of a file."""

_BOUNDS = (*STORED_BOUNDS, INFINITE)


@dataclass(frozen=True, slots=True)
class PastText:
    """Writes the series of one backfill. `began_at` and the end of the file are in Unix ms.

    Prometheus gives each series that it scrapes the labels `job` and `instance`. These have them too, so that they are
    no series of a processor or of another backfill, whose counters begin at 0 again.
    """

    began_at: int
    end: int

    def header(self, metric: CiMetric[Any]) -> str:
        """Return the lines before the first series of a metric."""
        return f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.prometheus_type}\n"

    def series(
        self, metric: CiCounter[Any] | CiHistogram[Any], labels: str, changes: Changes, reader: LabelReader
    ) -> Iterator[str]:
        """Yield the samples of a series in the order of time; `labels` are those in the store (JSON)."""
        total: Counter[int] = Counter()
        lines: list[str] | None = None
        for step in _steps(changes, self.end):
            if lines is None or step in changes:
                total.update(changes.get(step, {}))
                lines = self._lines(metric, labels, total, reader)
            yield "".join(f"{line} {step // 1000}\n" for line in lines)

    def _lines(
        self, metric: CiCounter[Any] | CiHistogram[Any], labels: str, total: Mapping[int, int], reader: LabelReader
    ) -> list[str]:
        family: StreamedFamily
        if isinstance(metric, CiHistogram):
            stored = tuple(total.get(bound, 0) for bound in _BOUNDS)
            family = StreamedHistogram(metric, [(labels, total.get(SUM, 0), 0, stored, False)], reader)
        else:
            family = StreamedCounter(metric, [(labels, total.get(NO_BOUND, 0), 0, False)], reader)
        began = datetime.fromtimestamp(self.began_at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        target = f'{{instance="{began}",job="promgithub-backfill",'
        text = "".join(family.lines(openmetrics=False, to_scraper=False))
        # The first brace begins the labels: every counter and histogram has some.
        return [line.replace("{", target, 1) for line in text.splitlines()]


def merged(several: Counter[tuple[int, int]]) -> Changes:
    """Return the changes in a sum by step and bound, in order."""
    changes: dict[int, dict[int, int]] = {}
    for (step, bound), value in sorted(several.items()):
        changes.setdefault(step, {})[bound] = value
    return changes


def _steps(changes: Changes, end: int) -> Iterator[int]:
    """Yield the times of the samples of a series with at least one change, in order."""
    at: int | None = None
    for change in changes:
        first = change - AROUND
        for step in range(first if at is None else max(first, at + STEP), min(change + AROUND, end) + 1, STEP):
            yield step
            at = step
    if at is None or at < end:
        yield end
