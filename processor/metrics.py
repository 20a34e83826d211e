"""The processor's metrics about itself. Each process has its own series; use `sum()` over processors."""

import time
from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from processor.counting.catalogue import CATALOGUE
from processor.counting.ci_metrics import CiGauge
from processor.counting.events import COUNTED
from shared.brokers.interface import Depths, Held
from shared.errors import PoisonReason
from shared.telemetry import process_registry

BATCH_DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Duration of a batch, in seconds."""

SIZE_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
"""Number of deliveries in a batch."""

LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
"""Seconds from the receiver to the commit. After an outage, this may be hours."""


TARGETS = frozenset(["repository", "organization", "integration"])
"""GitHub's names for the kinds of hook owners; `integration` is an App."""

RETRY_CAUSES = ("broker", "connection", "deadlock", "lock", "other", "permission", "serialization", "timeout")
"""Values of the label `cause`: the kinds of database failures, and `broker`."""

CHORES = ("forget", "merge", "reconcile", "redeliver", "release", "runners", "settle", "stale")
"""Values of the label `chore`: what the processor that holds the lease does beside counting."""


class WorkerMetrics:
    """The metrics, on a registry of their own. Counters begin at 0, so that `increase()` sees their first event."""

    def __init__(self) -> None:
        self.registry: CollectorRegistry = process_registry()
        self.workers = 0
        Gauge("promgithub_event_workers", "Workers that consume from the queue.", registry=self.registry).set_function(
            lambda: self.workers
        )
        self.processed = Counter(
            "promgithub_event_processed",
            "Deliveries counted in a committed transaction.",
            ["event_type"],
            registry=self.registry,
        )
        self.dropped = Counter(
            "promgithub_event_dropped",
            "Deliveries moved to the dead-letter queue, by reason.",
            ["event_type", "reason"],
            registry=self.registry,
        )
        self.failures = Counter(
            "promgithub_event_processing_failures",
            "Deliveries in failed transactions, once per attempt.",
            ["event_type"],
            registry=self.registry,
        )
        self.duration = Histogram(
            "promgithub_event_processing_duration_seconds",
            "Time from taking a batch to acknowledging it, including retries.",
            buckets=BATCH_DURATION_BUCKETS,
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
            "Time from receiving a delivery to the commit that counts it.",
            buckets=LAG_BUCKETS,
            registry=self.registry,
        )
        self.retries = Counter(
            "promgithub_event_retries",
            "Retried attempts to commit a batch or to publish a dead letter, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self.chore_failures = Counter(
            "promgithub_chore_failures",
            "Failures of chores, which the processor that holds the lease does, and of single rows, which they skip.",
            ["chore"],
            registry=self.registry,
        )
        self.retention_waiting = Gauge(
            "promgithub_retention_waiting",
            "1 if more than half of a table has expired, so that nothing is deleted in the first 24 h of a process.",
            ["table"],
            registry=self.registry,
        )
        self.duplicates_seen = Counter(
            "promgithub_duplicate_deliveries_seen",
            "Deliveries whose ID was already counted, once per attempt.",
            ["event_type"],
            registry=self.registry,
        )
        self.duplicates_dropped = Counter(
            "promgithub_duplicate_deliveries_dropped",
            "Deliveries dropped because their ID was already counted.",
            ["event_type"],
            registry=self.registry,
        )
        self.overflow = Counter(
            "promgithub_series_overflow",
            "Increments of the overflow series of a metric that has reached MAX_SERIES.",
            ["metric"],
            registry=self.registry,
        )
        self.recovered = Counter(
            "promgithub_recovered",
            "Failed deliveries that were recovered and counted, by event and by kind of hook.",
            ["kind", "source"],
            registry=self.registry,
        )
        self.corrected = Counter(
            "promgithub_corrected",
            "Runs and jobs corrected by reconciliation: `api` if GitHub has a newer state, `deleted` if it has none.",
            ["kind", "source"],
            registry=self.registry,
        )
        self.last_event = Gauge(
            "promgithub_last_event_timestamp_seconds",
            "Time at which the newest counted delivery was received.",
            ["event_type"],
            registry=self.registry,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        for cause in RETRY_CAUSES:
            self.retries.labels(cause)
        for chore in CHORES:
            self.chore_failures.labels(chore)
        for event in (*sorted(COUNTED), "other"):
            for counter in (self.processed, self.failures, self.duplicates_seen, self.duplicates_dropped):
                counter.labels(event)
            for reason in get_args(PoisonReason):
                self.dropped.labels(event, reason)
        for event, target in product(sorted(COUNTED), (*sorted(TARGETS), "other")):
            self.recovered.labels(event, target)
        for kind, source in product(("run", "job"), ("api", "deleted")):
            self.corrected.labels(kind, source)
        for metric in CATALOGUE:
            if not isinstance(metric, CiGauge):
                self.overflow.labels(metric.name)


def leader_family(exposes: bool) -> GaugeMetricFamily:
    """Return the metric that shows whether this processor exposes the metrics from the store."""
    return GaugeMetricFamily(
        "promgithub_exporter_leader",
        "1 on the processor that exposes the metrics from the store, 0 on the others.",
        float(exposes),
    )


def health_families(*, broker_up: bool, database_up: bool) -> list[GaugeMetricFamily]:
    """Return the metrics that show whether this processor can use the broker and the database."""
    return [
        GaugeMetricFamily("promgithub_broker_up", "1 if the broker accepts deliveries, 0 if not.", float(broker_up)),
        GaugeMetricFamily(
            "promgithub_database_up",
            "1 if the last write to the database succeeded, 0 if not. /readyz and the log say why not.",
            float(database_up),
        ),
    ]


def held_families(held: Held, returns: int) -> list[Metric]:
    """Return the metrics of the deliveries that this processor holds."""
    age = 0.0 if held.oldest is None else max(0.0, time.time() - held.oldest / 1000)
    return [
        GaugeMetricFamily(
            "promgithub_event_held",
            "Deliveries that this processor holds: taken from the queue and not acknowledged yet.",
            held.deliveries,
        ),
        GaugeMetricFamily(
            "promgithub_event_oldest_age_seconds",
            "Age of the oldest delivery that this processor holds; 0 if none.",
            age,
        ),
        CounterMetricFamily(
            "promgithub_event_returns",
            "Times that this processor returned deliveries to the queue because they exceeded MAX_HELD_BYTES.",
            returns,
        ),
    ]


def queue_families(depths: Depths) -> list[GaugeMetricFamily]:
    """Return the broker's metrics of the queue. Every processor reports the same values, so use `max()`."""
    return [
        GaugeMetricFamily(
            "promgithub_event_queue_depth", "Deliveries in the queue that are ready for a consumer.", depths.ready
        ),
        GaugeMetricFamily(
            "promgithub_event_queue_capacity", "Maximum number of deliveries in the queue.", depths.capacity
        ),
        GaugeMetricFamily("promgithub_dead_letters", "Deliveries in the dead-letter queue.", depths.dead_letters),
    ]
