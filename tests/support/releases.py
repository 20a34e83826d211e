"""Releases of promgithub with different declarations of metrics, on one database."""

from collections.abc import Iterable
from typing import Any

from processor.counting.catalogue import UNREADABLE
from processor.counting.ci_metrics import Catalogue, Tally
from processor.counting.subjects import Rows
from processor.scrape import Page
from shared.admin import exposition
from tests.support import figures
from tests.support.figures import GROWING, Figures
from tests.support.worker import Worker

NAME = "promgithub_build"
"""What the names of a release's metrics begin with, unless it renames them."""


class Release:
    """A release with a counter and a histogram of its own, which have the same labels; its processor has the lease."""

    def __init__(
        self,
        counting: Worker,
        labels: type[tuple[str, ...]],
        *,
        buckets: tuple[int, ...] = (1000, 5000),
        name: str = NAME,
    ) -> None:
        """`buckets`: bounds in milliseconds."""
        self._counting = counting
        self._labels: Any = labels
        self._name = name
        self.catalogue = Catalogue()
        self.counter = self.catalogue.counter(name, "Builds.", self._labels)
        self.histogram = self.catalogue.histogram(f"{name}_seconds", "Durations of builds.", self._labels, buckets)
        self.catalogue._add(UNREADABLE)

    async def count(self, *values: str, times: int = 1, milliseconds: int = 1500) -> None:
        """Count builds with the same labels and duration in one transaction."""
        await self.count_each([values] * times, milliseconds=milliseconds)

    async def count_each(self, builds: Iterable[tuple[str, ...]], *, milliseconds: int = 1500) -> None:
        """Count builds with these values of the labels in one transaction."""
        tally = Tally()
        for values in builds:
            labels = self._labels(*values)
            self.counter.inc(tally, labels)
            self.histogram.observe(tally, labels, milliseconds=milliseconds)
        async with self._counting.store.batch() as transaction:
            await transaction.write(Rows(), tally)

    async def page(self) -> Figures:
        """Return what `/metrics` says of the release's metrics."""
        page = Page([], await self._counting.snapshot(), self._counting.max_series, self.catalogue)
        return figures.of_text(exposition.page(page, openmetrics=False).decode())

    async def builds(self) -> dict[tuple[str, ...], float]:
        """Return what the counter says, by the values of its labels; the histogram counts the same."""
        page = await self.page()
        counted = {kind: self._by_labels(page, kind) for kind in (f"{self._name}_total", f"{self._name}_seconds_count")}
        total, observed = counted.values()
        assert total == observed
        return total

    async def unreadable(self) -> float:
        """Return what `promgithub_series_unreadable` says."""
        return figures.value(await self.page(), "promgithub_series_unreadable")

    async def merge(self) -> int:
        """Merge the series with labels that this release does not have."""
        chores = self._counting.chores(catalogue=self.catalogue)
        return await chores.merge()

    def _by_labels(self, page: Figures, sample: str) -> dict[tuple[str, ...], float]:
        names = self.counter.label_names
        found = {labels: value for (name, labels), value in page.items() if name == sample}
        return {tuple(dict(labels)[name] for name in names): value for labels, value in found.items()}


def assert_only_grows(before: Figures, after: Figures) -> None:
    """Check that what may only grow, and is on both of two pages that follow one another, has not become less."""
    common = [sample for sample in before if sample in after and sample[0].endswith(GROWING)]
    assert {sample: after[sample] for sample in common if after[sample] < before[sample]} == {}
