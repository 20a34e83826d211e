"""Every metric of the receiver."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.outcomes import TAKEN, RequestOutcome
from shared.brokers.spool import SpoolBroker
from shared.github import event_label
from shared.telemetry import process_registry

ACK_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds until the answer 202. GitHub's timeout is 10 s."""

UNCOUNTED_EVENTS = ("ping", "other")
"""Events that every receiver gets, whatever is counted."""


@dataclass(frozen=True, slots=True)
class SpoolFigures:
    """How full a spool is. All values are 0 without a spool."""

    deliveries: int = 0
    bytes: int = 0
    capacity_deliveries: int = 0
    capacity_bytes: int = 0
    oldest_age: float = 0.0
    dead_letters: int = 0
    forwarded: int = 0

    @classmethod
    def of(cls, spool: SpoolBroker, forwarded: int = 0) -> Self:
        """Return the figures of a spool; `forwarded` is the number of deliveries forwarded from it."""
        return cls(spool.deliveries, spool.bytes, *spool.capacity, spool.head_age, spool.dead_letters, forwarded)


class ReceiverMetrics:
    """The metrics, on a registry of their own."""

    def __init__(
        self,
        broker_up: Callable[[], bool],
        in_flight: Callable[[], int],
        spool: Callable[[], SpoolFigures],
        counted: Iterable[str] = (),
    ) -> None:
        """Each scrape calls the first three: whether the broker takes deliveries, requests in flight, and the spool.

        The series of the `counted` events begin at 0, so that `increase()` sees their first refusal.
        """
        self.registry = process_registry()
        self._requests = Counter(
            "promgithub_webhook_requests",
            "Webhook requests, by the event in their header and by outcome.",
            ["event", "outcome"],
            registry=self.registry,
        )
        self.ack = Histogram(
            "promgithub_webhook_ack_seconds",
            "Time from receiving the headers of a delivery to answering 202.",
            buckets=ACK_BUCKETS,
            registry=self.registry,
        )
        Gauge("promgithub_webhook_in_flight", "Webhook requests in progress.", registry=self.registry).set_function(
            in_flight
        )
        Gauge(
            "promgithub_broker_up", "1 if the broker accepts deliveries, 0 if not.", registry=self.registry
        ).set_function(broker_up)
        self.registry.register(SpoolMetrics(spool))
        self._children: dict[tuple[str, RequestOutcome], Counter] = {}
        self.last_taken: dict[str, float] = {}
        """When the last delivery of each event was taken, or pinged (Unix seconds)."""
        for event in (*sorted(counted), *UNCOUNTED_EVENTS):
            for outcome in RequestOutcome:
                self._requests.labels(event, outcome.value)

    def count(self, event: str | None, outcome: RequestOutcome) -> None:
        """Count a request; `event` is the value of its header."""
        key = event_label(event or ""), outcome
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(key[0], outcome.value)
        child.inc()
        if outcome in TAKEN:
            self.last_taken[key[0]] = time.time()


class SpoolMetrics(Collector):
    """The metrics of the spool, read from it at each scrape."""

    def __init__(self, figures: Callable[[], SpoolFigures]) -> None:
        """`figures` returns how full the spool is."""
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield every metric."""
        figures = self._figures()
        for name, help_text, value in (
            ("deliveries", "Deliveries in the spool on this receiver's disk.", figures.deliveries),
            ("bytes", "Bytes of the payloads in the spool on this receiver's disk.", figures.bytes),
            ("capacity_deliveries", "Maximum deliveries in the spool; 0 without a spool.", figures.capacity_deliveries),
            ("capacity_bytes", "Maximum bytes of payloads in the spool; 0 without a spool.", figures.capacity_bytes),
            ("oldest_age_seconds", "Age of the oldest delivery in the spool.", figures.oldest_age),
            ("dead_letters", "Dead letters in the spool: deliveries too large for the broker.", figures.dead_letters),
        ):
            yield GaugeMetricFamily(f"promgithub_spool_{name}", help_text, value)
        yield CounterMetricFamily(
            "promgithub_spool_forwarded", "Deliveries forwarded from the spool to the broker.", figures.forwarded
        )
