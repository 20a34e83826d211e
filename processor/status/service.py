"""Gives the views to the page and to the API: cached, and with what is known while the database is away."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from processor.status.cache import Cache, Known
from processor.status.pipeline import pipeline
from processor.status.queries import Query
from processor.status.reading import StatusReader
from processor.status.views import Failures, Insights, Open, Pipeline
from shared.admin.exposition import Families

CACHED_SECONDS = 5.0
"""How long an answer from the store is shown at least, in seconds."""

ProcessMetrics = Callable[[], Awaitable[Families]]
"""Returns the metrics of this process, without those from the store."""


class StatusService:
    """The views."""

    def __init__(self, reader: StatusReader, own_metrics: ProcessMetrics, leads: Callable[[], bool]) -> None:
        """`leads` returns whether this process exposes the metrics from the store."""
        self._reader = reader
        self._leads = leads
        self._cache = Cache(CACHED_SECONDS)
        self._sources: list[ProcessMetrics] = [own_metrics]

    def add_metrics(self, source: ProcessMetrics) -> None:
        """Add the metrics of the receiver, if this process is one too."""
        self._sources.append(source)

    async def open(self, query: Query) -> Known[Open]:
        """Return the open runs and jobs."""
        return await self._cache.get(("open", query), lambda: self._reader.open(query))

    async def failures(self, query: Query) -> Known[Failures]:
        """Return the jobs that failed last."""
        return await self._cache.get(("failures", query), lambda: self._reader.failures(query))

    async def insights(self, query: Query) -> Known[Insights]:
        """Return the insights of a window."""
        return await self._cache.get(("insights", query), lambda: self._reader.insights(query))

    async def pipeline(self) -> Pipeline:
        """Return the health of promgithub, which needs no database."""
        families = [family for source in self._sources for family in (await source()).collect()]
        return pipeline(families, datetime.now(UTC), leads=self._leads())
