"""What `/metrics` of a processor says: its own metrics, the queue's, and the store's if it holds the lease."""

import asyncio
from collections.abc import Iterator

from prometheus_client.core import Metric

from processor import lease
from processor.exposition import families
from processor.lease import Lease
from processor.metrics import WorkerMetrics, health_families, leader_family, queue_families
from processor.store import Store
from processor.store.engine import describe, is_failure
from processor.store.snapshot import Snapshot
from shared.broker import Broker
from shared.errors import BrokerError
from shared.logs import get_logger

TIMEOUT = 5.0
"""Seconds that the database, or the broker, may take to answer a scrape."""

_log = get_logger(__name__)


class Page:
    """Metric families, gathered and ready to be rendered."""

    def __init__(self, own: list[Metric], snapshot: Snapshot | None, max_series: int) -> None:
        """`own`: what does not come from the store; `max_series` bounds the gauges."""
        self._own = own
        self._snapshot = snapshot
        self._max_series = max_series

    def collect(self) -> Iterator[Metric]:
        """Yield every family; what prometheus_client renders anything by."""
        yield from self._own
        if self._snapshot is not None:
            yield from families(self._snapshot, self._max_series)


class Scrape:
    """Gathers a page for each scrape."""

    def __init__(self, store: Store, lease: Lease, broker: Broker, metrics: WorkerMetrics, max_series: int) -> None:
        """`max_series` bounds the gauges as it bounds the series in the store."""
        self._store = store
        self._lease = lease
        self._broker = broker
        self._metrics = metrics
        self._max_series = max_series
        self._reading = asyncio.Lock()

    async def page(self) -> Page:
        """Return what to expose now. A database or broker that does not answer leaves its metrics out.

        The processor's own metrics are looked at first: what they say has been counted is in the snapshot.
        """
        own = list(self._metrics.registry.collect())
        snapshot, queue = await asyncio.gather(self._snapshot(), self._queue())
        exposes = snapshot is not None and self._lease.held
        health = health_families(broker_up=self._broker.available, database_up=self._lease.database_up)
        return Page([*own, *health, *queue, leader_family(exposes)], snapshot if exposes else None, self._max_series)

    async def _snapshot(self) -> Snapshot | None:
        async with self._reading:  # one at a time, however many scrape
            return await self._read() if self._lease.held else None

    async def _read(self) -> Snapshot | None:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._store.snapshot(lease.NAME, self._lease.holder)
        except Exception as error:
            if not is_failure(error):
                raise
            _log.warning("the metrics from the store are left out of a scrape", error=describe(error))
            return None

    async def _queue(self) -> list[Metric]:
        try:
            async with asyncio.timeout(TIMEOUT):
                return list(queue_families(await self._broker.depths()))
        except (BrokerError, TimeoutError) as error:
            _log.warning("the metrics of the queue are left out of a scrape", error=str(error) or "no answer in time")
            return []
