"""The page `/metrics` of a processor: its own metrics, the queue's, and for the leader the store's and the runners."""

import asyncio
from collections.abc import Callable, Iterator
from functools import lru_cache

from prometheus_client.core import GaugeMetricFamily, Metric

from processor.counting.catalogue import EXPOSED
from processor.counting.ci_metrics import Catalogue
from processor.counting.snapshot import Snapshot
from processor.exposition.families import families
from processor.metrics import WorkerMetrics, health_families, held_families, leader_family, queue_families
from processor.recovery.runners import RunnerGauge
from processor.store import Store, lease
from processor.store.lease import Lease
from shared.brokers.interface import Broker
from shared.errors import BrokerError, OutdatedError, StoreError, StoreUnavailable
from shared.log_limits import OutageLog
from shared.logs import get_logger

TIMEOUT = 5.0
"""Timeout of a scrape's request to the database or the broker, in seconds."""

_log = get_logger(__name__)


class Page:
    """The metric families of one scrape."""

    def __init__(
        self,
        own: list[Metric],
        snapshot: Snapshot | None,
        max_series: int,
        catalogue: Catalogue = EXPOSED,
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """`own` has the families that do not come from the store; `max_series` limits the series of each gauge.

        `leads` returns whether this process may still expose the snapshot.
        """
        self._own = own
        self._snapshot = snapshot
        self._max_series = max_series
        self._catalogue = catalogue
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """Yield every family. Raises `OutdatedError` at the end if the lease was lost meanwhile."""
        yield from self._own
        if self._snapshot is not None:
            yield from families(self._snapshot, self._max_series, self._catalogue, _report_unreadable)
            if not self._leads():
                raise OutdatedError("the lease was lost while the page was rendered")


@lru_cache(maxsize=1024)
def _report_unreadable(where: str, what: str) -> None:
    """Log a value that cannot be read. Logs each value only once."""
    _log.error("left out of /metrics because it cannot be read", where=where, what=what)


class Scrape:
    """Gathers a page for each scrape."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        broker: Broker,
        metrics: WorkerMetrics,
        runners: RunnerGauge,
        *,
        max_series: int,
        catalogue: Catalogue,
    ) -> None:
        """`max_series` limits the series of each gauge, like those of other metrics in the store."""
        self._catalogue = catalogue
        self._store = store
        self._lease = lease
        self._broker = broker
        self._metrics = metrics
        self._runners = runners
        self._max_series = max_series
        self._reading = asyncio.Lock()
        self._store_outage = OutageLog(
            _log, "the metrics from the store are left out of scrapes", "scrapes have the metrics from the store again"
        )
        self._queue_outage = OutageLog(
            _log, "scrapes omit the metrics of the queue", "scrapes have the metrics of the queue again"
        )

    async def page(self, *, exemplars: bool = False) -> Page:
        """Return the page, with or without exemplars.

        If the database or the broker does not answer, its metrics are omitted.
        The processor's own metrics are collected first, so that all deliveries they include are in the snapshot too.
        """
        own = self._own()
        snapshot, queue = await asyncio.gather(self._snapshot(exemplars), self._queue())
        exposes = snapshot is not None and self._lease.held
        return Page(
            [*own, *self._health(), *queue, leader_family(exposes), *(self._runners.families() if exposes else ())],
            snapshot if exposes else None,
            self._max_series,
            self._catalogue,
            leads=lambda: self._lease.held,
        )

    async def own_page(self) -> Page:
        """Return the page without the metrics from the store."""
        return Page([*self._own(), *self._health(), *await self._queue()], None, self._max_series, self._catalogue)

    def _own(self) -> list[Metric]:
        return [*self._metrics.registry.collect(), *held_families(self._broker.held, self._broker.returns)]

    def _health(self) -> list[GaugeMetricFamily]:
        return health_families(broker_up=self._broker.available, database_up=self._lease.database_up)

    async def _snapshot(self, exemplars: bool) -> Snapshot | None:
        async with self._reading:  # one snapshot at a time, even with several scrapers
            return await self._read(exemplars) if self._lease.held else None

    async def _read(self, exemplars: bool) -> Snapshot | None:
        holder = self._lease.holder
        try:
            snapshot = await self._store.snapshot(lease.NAME, holder, within=TIMEOUT, exemplars=exemplars)
        except StoreError as error:
            lost = isinstance(error, StoreUnavailable) and error.cause == "connection"
            (self._store.outage if lost else self._store_outage).notice(str(error))
            return None
        self._store_outage.end()
        return snapshot

    async def _queue(self) -> list[Metric]:
        try:
            async with asyncio.timeout(TIMEOUT):
                depths = await self._broker.depths()
        except (BrokerError, TimeoutError) as error:
            self._queue_outage.notice(str(error) or "no answer in time")
            return []
        self._queue_outage.end()
        return list(queue_families(depths))
