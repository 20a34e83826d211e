"""Every metric of the receiver."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from ingest.answers import Outcome
from shared.github import event_label
from shared.telemetry import process_registry

ACK_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds to a 202; GitHub gives up after 10."""

EXPECTED_EVENTS = ("workflow_run", "workflow_job", "push", "pull_request", "ping", "other")
"""Events whose series begin at 0, so that `increase()` sees the first refusal; others begin with their first."""


class ReceiverMetrics:
    """The metrics, on a registry of their own."""

    def __init__(self, broker_up: Callable[[], bool], in_flight: Callable[[], int]) -> None:
        """Both are asked at each scrape: whether the broker takes deliveries, how many requests are in flight."""
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
        self.spool_deliveries = Gauge(
            "promgithub_spool_deliveries", "Deliveries kept on this receiver's own disk.", registry=self.registry
        )
        self.spool_bytes = Gauge(
            "promgithub_spool_bytes",
            "Bytes of the deliveries kept on this receiver's own disk.",
            registry=self.registry,
        )
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
