"""The values over the steps of a window, which the page and the terminal draw. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from processor.status import texts
from processor.status.views import Insights


class Trend(NamedTuple):
    """A title, the values of the steps (None if there is none), and the maximum as text."""

    title: str
    values: Sequence[float | None]
    most: str


def trends(insights: Insights) -> list[Trend]:
    """Return what is drawn of a window."""
    steps = insights.steps
    waits = [step.queue_p90_seconds for step in steps]
    busy = [step.busy_seconds for step in steps]
    return [
        _of_numbers("Jobs started", [step.jobs_started for step in steps]),
        Trend("Time in the queue, 90 %", waits, texts.duration(max((wait for wait in waits if wait), default=0.0))),
        _of_numbers("Runs that failed", [step.failed for step in steps]),
        Trend("Busy time of runners", busy, texts.duration(max(busy, default=0.0))),
    ]


def _of_numbers(title: str, values: Sequence[int]) -> Trend:
    return Trend(title, values, texts.number(max(values, default=0)))
