"""Every metric of recovery; each process has its own."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge


class RecoveryMetrics:
    """The metrics, on the registry of the worker that recovers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make them all."""
        self.requests = Counter(
            "promgithub_github_api_requests",
            "Requests to GitHub's API, by what was asked and the status answered; `none` if no answer came.",
            ["endpoint", "status"],
            registry=registry,
        )
        self.remaining = Gauge(
            "promgithub_github_api_remaining",
            "Requests that GitHub still allows within the hour, by whose they are.",
            ["credential"],
            registry=registry,
        )
        self.limit = Gauge(
            "promgithub_github_api_limit",
            "Requests that GitHub allows an hour, by whose they are.",
            ["credential"],
            registry=registry,
        )
        self.succeeded = Gauge(
            "promgithub_recovery_last_success_timestamp_seconds",
            "When recovery last came to its end without an error in this process; 0 if never, absent if not set up.",
            ["task"],
            registry=registry,
        )

    def expect(self, task: str) -> None:
        """Let the series of a task begin: it is to be done by this process, should it lead."""
        self.succeeded.labels(task)

    def success(self, task: str) -> None:
        """Note that a task came to its end."""
        self.succeeded.labels(task).set(time.time())
