"""Every metric of the worker itself; each process has its own, so `sum()` over processors is right."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.broker import Depths
from shared.telemetry import process_registry

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Seconds that a batch takes."""

SIZE_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
"""Deliveries in a batch."""

LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
"""Seconds from the receiver to the commit; hours after an outage."""


RETRY_CAUSES = ("broker", "connection", "deadlock", "lock", "other", "serialization", "timeout")
"""Why an attempt failed: the database's failures, and `broker`."""


class WorkerMetrics:
    """The metrics, on a registry of their own."""

    def __init__(self) -> None:
        """Make them all; none has a value that depends on the store."""
        self.registry: CollectorRegistry = process_registry()
        self.workers = 0
        self.registry.register(_WorkerCount(self))
        self.processed = Counter(
            "promgithub_event_processed",
            "Deliveries counted and committed.",
            ["event_type"],
            registry=self.registry,
        )
        self.dropped = Counter(
            "promgithub_event_dropped",
            "Deliveries put into the dead-letter queue, by reason.",
            ["event_type", "reason"],
            registry=self.registry,
        )
        self.failures = Counter(
            "promgithub_event_processing_failures",
            "Deliveries in transactions that failed, each attempt counted.",
            ["event_type"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "promgithub_event_processing_duration_seconds",
            "Time from taking a batch to its acknowledgement, retries included.",
            buckets=DURATION_BUCKETS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "promgithub_event_batch_size",
            "Deliveries in a batch.",
            buckets=SIZE_BUCKETS,
            registry=self.registry,
        )
        self.lag = Histogram(
            "promgithub_event_lag_seconds",
            "Time from the receiver's answer to the commit, of each delivery.",
            buckets=LAG_BUCKETS,
            registry=self.registry,
        )
        self.retries = Counter(
            "promgithub_event_retries",
            "Attempts to commit a batch, or to put a dead letter away, that failed and were made again, by cause.",
            ["cause"],
            registry=self.registry,
        )
        for cause in RETRY_CAUSES:
            self.retries.labels(cause)
        self._held: list[float] = []
        Gauge(
            "promgithub_event_oldest_age_seconds",
            "Time since the oldest delivery that a worker holds was received; 0 if none is held.",
            registry=self.registry,
        ).set_function(self._oldest_age)
        self.duplicates_seen = Counter(
            "promgithub_duplicate_deliveries_seen",
            "Deliveries whose ID was already counted, found in any attempt.",
            ["event_type"],
            registry=self.registry,
        )
        self.duplicates_dropped = Counter(
            "promgithub_duplicate_deliveries_dropped",
            "Deliveries that changed nothing because their ID was already counted.",
            ["event_type"],
            registry=self.registry,
        )
        self.overflow = Counter(
            "promgithub_series_overflow",
            "Additions to the overflow series of a metric that has all the series that it may have.",
            ["metric"],
            registry=self.registry,
        )
        self.recovered = Counter(
            "promgithub_recovered",
            "Deliveries counted that GitHub had failed to hand over, by event and by the kind of hook that lists them.",
            ["kind", "source"],
            registry=self.registry,
        )
        self.corrected = Counter(
            "promgithub_corrected",
            "States of runs and jobs that GitHub told when asked: `api`, or `deleted` if it knows them no more.",
            ["kind", "source"],
            registry=self.registry,
        )
        self.last_event = Gauge(
            "promgithub_last_event_timestamp_seconds",
            "When the newest delivery that was counted had been received.",
            ["event_type"],
            registry=self.registry,
        )

    @contextmanager
    def holding(self, received: float) -> Iterator[None]:
        """Count a batch as held whose oldest delivery was received at `received`, in Unix seconds."""
        self._held.append(received)
        try:
            yield
        finally:
            self._held.remove(received)

    def _oldest_age(self) -> float:
        return max(0.0, time.time() - min(self._held)) if self._held else 0.0


class _WorkerCount(Collector):
    """`promgithub_event_worker_count`: a name that dashboards know, but that promtool allows to summaries only."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        meaning = "Workers that take batches from the queue: a gauge in all but its type, which its name dictates."
        family = Metric("promgithub_event_worker", meaning, "summary")
        family.add_sample("promgithub_event_worker_count", {}, self._metrics.workers)
        yield family


def leader_family(exposes: bool) -> GaugeMetricFamily:
    """Return the metric that says whether this processor exposes the metrics from the store."""
    return GaugeMetricFamily(
        "promgithub_exporter_leader",
        "1 on the processor that exposes the metrics from the store, 0 on the others.",
        float(exposes),
    )


def health_families(*, broker_up: bool, database_up: bool) -> list[GaugeMetricFamily]:
    """Return the metrics that say what this processor can reach."""
    return [
        GaugeMetricFamily("promgithub_broker_up", "1 if the broker takes deliveries, 0 if not.", float(broker_up)),
        GaugeMetricFamily(
            "promgithub_database_up", "1 if the database answered when last asked, 0 if not.", float(database_up)
        ),
    ]


def queue_families(depths: Depths) -> list[GaugeMetricFamily]:
    """Return the metrics of the queue, as the broker sees it; every processor reports the same, so use `max()`."""
    return [
        GaugeMetricFamily(
            "promgithub_event_queue_depth", "Deliveries in the queue that no processor has taken yet.", depths.ready
        ),
        GaugeMetricFamily(
            "promgithub_event_queue_capacity", "Deliveries that the queue takes before it refuses.", depths.capacity
        ),
        GaugeMetricFamily("promgithub_dead_letters", "Deliveries in the dead-letter queue.", depths.dead_letters),
    ]
