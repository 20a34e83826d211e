"""What can be measured, by name, in the order in which it is."""

from collections.abc import AsyncIterator, Callable, Mapping

from bench.measurements import acks, burst, drain, receiver_cpu, scaling, scrape, sustained, tracked
from bench.result import Result
from bench.stage import Stage

Measurement = Callable[[Stage], AsyncIterator[Result]]
"""Yields figures; the first line of its docstring says of what."""

MEASUREMENTS: Mapping[str, Measurement] = {
    "receiver-cpu": receiver_cpu.measure,
    "acks": acks.measure,
    "burst": burst.measure,
    "drain": drain.measure,
    "tracked": tracked.measure,
    "scaling": scaling.measure,
    "scrape": scrape.measure,
    "sustained": sustained.measure,
}
