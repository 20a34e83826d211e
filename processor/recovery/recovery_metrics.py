"""The metrics of recovery. Each process has its own series."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge


class RecoveryMetrics:
    """The metrics, in the registry of the processor that recovers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "promgithub_github_api_requests",
            "Requests to GitHub's API, by endpoint and status code; `none` if there was no answer.",
            ["endpoint", "status"],
            registry=registry,
        )
        self.remaining = Gauge(
            "promgithub_github_api_remaining",
            "Remaining requests in GitHub's current rate limit window, by kind of credential.",
            ["credential"],
            registry=registry,
        )
        self.limit = Gauge(
            "promgithub_github_api_limit",
            "Requests that GitHub allows per hour, by kind of credential.",
            ["credential"],
            registry=registry,
        )
        self.succeeded = Gauge(
            "promgithub_recovery_last_success_timestamp_seconds",
            "Time of the last complete recovery in this process; 0 if none, absent if recovery is not configured.",
            ["task"],
            registry=registry,
        )

    def expect(self, task: str) -> None:
        """Create the series of a task that this process does while it holds the lease."""
        self.succeeded.labels(task)

    def success(self, task: str) -> None:
        """Record that a task completed without an error."""
        self.succeeded.labels(task).set(time.time())
