"""Every metric of the receiver."""

from prometheus_client import Counter, Gauge, Histogram

from shared.broker import Publisher
from shared.github import event_label
from shared.telemetry import process_registry

ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds to an answer; GitHub gives up after 10."""

OUTCOMES = (
    "accepted",
    "pong",
    "bad_request",
    "bad_signature",
    "too_large",
    "unsupported",
    "shed",
    "queue_full",
    "broker_down",
)
"""How a request can end; each is counted once."""


class ReceiverMetrics:
    """The metrics, on a registry of their own."""

    def __init__(self, publisher: Publisher) -> None:
        """`publisher` is asked at each scrape whether it is available."""
        self.registry = process_registry()
        self._requests = Counter(
            "promgithub_webhook_requests",
            "Webhook requests answered, by how they ended.",
            ["event", "outcome"],
            registry=self.registry,
        )
        self.ack = Histogram(
            "promgithub_webhook_ack_seconds",
            "Time from a request's headers to its answer.",
            buckets=ACK_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "promgithub_webhook_in_flight", "Webhook requests that are not answered yet.", registry=self.registry
        )
        up = Gauge("promgithub_broker_up", "1 if the broker takes deliveries, 0 if not.", registry=self.registry)
        up.set_function(lambda: publisher.available)
        for outcome in OUTCOMES:
            self._requests.labels("other", outcome)

    def answered(self, event: str, outcome: str) -> None:
        """Count an answer; `event` is whatever the header says."""
        self._requests.labels(event_label(event), outcome).inc()
