"""What `/metrics` of a processor says: its own metrics, the queue's, and the store's if it holds the lease."""

import asyncio
import time
from collections.abc import Iterator

from prometheus_client.core import Metric

from processor import lease
from processor.exposition import families
from processor.lease import Lease
from processor.metrics import WorkerMetrics, queue_families
from processor.store import Store
from processor.store.engine import describe, is_failure
from processor.store.snapshot import Snapshot
from shared.broker import Broker
from shared.errors import BrokerError
from shared.logs import get_logger

FRESH = 1.0
"""Seconds that a snapshot is used again, so that scrapers in a hurry cost one read between them."""

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
        self._snapshot: Snapshot | None = None
        self._read_at = float("-inf")

    async def page(self) -> Page:
        """Return what to expose now. A database or broker that does not answer leaves its metrics out."""
        snapshot, queue = await asyncio.gather(self._fresh_snapshot(), self._queue())
        exposes = snapshot is not None and self._lease.held
        self._metrics.leader.set(exposes)
        own = [*self._metrics.registry.collect(), *queue]
        return Page(own, snapshot if exposes else None, self._max_series)

    async def _fresh_snapshot(self) -> Snapshot | None:
        async with self._reading:
            if not self._lease.held:
                self._snapshot = None
            elif time.monotonic() - self._read_at > FRESH:
                self._snapshot = await self._read()
                self._read_at = time.monotonic()
            return self._snapshot

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
