"""Every metric of the receiver."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.answers import Outcome
from shared.github import event_label
from shared.spool import SpoolBroker
from shared.telemetry import process_registry

ACK_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds to a 202; GitHub gives up after 10."""

EXPECTED_EVENTS = ("workflow_run", "workflow_job", "push", "pull_request", "ping", "other")
"""Events whose series begin at 0, so that `increase()` sees the first refusal; others begin with their first."""


@dataclass(frozen=True, slots=True)
class SpoolFigures:
    """How full a spool is; all 0 where there is none."""

    deliveries: int = 0
    bytes: int = 0
    capacity_deliveries: int = 0
    capacity_bytes: int = 0
    oldest_age: float = 0.0
    dead_letters: int = 0
    forwarded: int = 0

    @classmethod
    def of(cls, spool: SpoolBroker, forwarded: int = 0) -> Self:
        """Return the figures of a spool, from which so many deliveries were forwarded."""
        return cls(spool.deliveries, spool.bytes, *spool.capacity, spool.head_age, spool.dead_letters, forwarded)


class ReceiverMetrics:
    """The metrics, on a registry of their own."""

    def __init__(self, broker_up: Callable[[], bool], in_flight: Callable[[], int]) -> None:
        """Both are asked at each scrape: whether the broker takes deliveries, how many requests are in flight."""
        self.spool: Callable[[], SpoolFigures] = SpoolFigures
        """Asked at each scrape."""
        self.registry = process_registry()
        self._requests = Counter(
            "promgithub_webhook_requests",
            "Webhook requests, by the event that they claim to be and how they ended.",
            ["event", "outcome"],
            registry=self.registry,
        )
        self.ack = Histogram(
            "promgithub_webhook_ack_seconds",
            "Time from the headers of a delivery to the 202 that accepts it.",
            buckets=ACK_BUCKETS,
            registry=self.registry,
        )
        Gauge(
            "promgithub_webhook_in_flight", "Webhook requests that are not answered yet.", registry=self.registry
        ).set_function(in_flight)
        Gauge(
            "promgithub_broker_up", "1 if the broker takes deliveries, 0 if not.", registry=self.registry
        ).set_function(broker_up)
        self.registry.register(_SpoolMetrics(self))
        self._children: dict[tuple[str, Outcome], Counter] = {}
        for event in EXPECTED_EVENTS:
            for outcome in Outcome:
                self._requests.labels(event, outcome.value)

    def count(self, event: str | None, outcome: Outcome) -> None:
        """Count how a request ended; `event` is what its header says."""
        key = event_label(event or ""), outcome
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(key[0], outcome.value)
        child.inc()


class _SpoolMetrics(Collector):
    """The metrics of the spool, which knows itself what is in it."""

    def __init__(self, metrics: ReceiverMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        figures = self._metrics.spool()
        for name, help_text, value in (
            ("deliveries", "Deliveries kept on this receiver's own disk.", figures.deliveries),
            ("bytes", "Bytes of the deliveries kept on this receiver's own disk.", figures.bytes),
            ("capacity_deliveries", "Deliveries that the spool takes; 0 without a spool.", figures.capacity_deliveries),
            ("capacity_bytes", "Bytes of deliveries that the spool takes; 0 without a spool.", figures.capacity_bytes),
            ("oldest_age_seconds", "Time since the next delivery to leave the spool was received.", figures.oldest_age),
            ("dead_letters", "Deliveries in the spool that the broker can never take.", figures.dead_letters),
        ):
            yield GaugeMetricFamily(f"promgithub_spool_{name}", help_text, value)
        yield CounterMetricFamily(
            "promgithub_spool_forwarded", "Deliveries that the broker has taken from the spool.", figures.forwarded
        )
