"""The endpoints of the API. Pure."""

from dataclasses import dataclass

from processor.status.views import Failures, Insights, Open, Pipeline, View

BASE = "/api/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its name, what it returns, and the parameters that it takes."""

    name: str
    summary: str
    view: type[View]
    parameters: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path of its URL."""
        return f"{BASE}/{self.name}"


OPEN = Endpoint(
    "open",
    "What is queued, waiting and running now.",
    Open,
    ("repository", "class", "phase", "older", "sort", "limit", "offset"),
)
FAILURES = Endpoint(
    "failures",
    "The jobs that failed last, the newest first.",
    Failures,
    ("repository", "class", "limit", "offset"),
)
INSIGHTS = Endpoint(
    "insights",
    "Runner classes and workflows in the last 24 hours or 7 days.",
    Insights,
    ("window", "repository", "class"),
)
PIPELINE = Endpoint("pipeline", "The health of promgithub, as this process sees it.", Pipeline, ())

ENDPOINTS = (OPEN, FAILURES, INSIGHTS, PIPELINE)
"""The endpoints."""
