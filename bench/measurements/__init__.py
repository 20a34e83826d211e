"""The measurements by name, in their order."""

from collections.abc import AsyncIterator, Callable, Mapping

from bench.measurements import (
    acks,
    burst,
    drain,
    exemplars,
    labels,
    overload,
    receiver_cpu,
    replaying,
    scaling,
    scraping,
    standing_alone,
    status,
    sustained,
    tracked,
)
from bench.result import Result
from bench.stage import Stage

Measurement = Callable[[Stage], AsyncIterator[Result]]
"""Yields figures. The first line of its docstring is the title."""

MEASUREMENTS: Mapping[str, Measurement] = {
    "receiver-cpu": receiver_cpu.measure,
    "acks": acks.measure,
    "burst": burst.measure,
    "overload": overload.measure,
    "standalone": standing_alone.measure,
    "drain": drain.measure,
    "labels": labels.measure,
    "tracked": tracked.measure,
    "status": status.measure,
    "scaling": scaling.measure,
    "scrape": scraping.measure,
    "exemplars": exemplars.measure,
    "replay": replaying.measure,
    "sustained": sustained.measure,
}
