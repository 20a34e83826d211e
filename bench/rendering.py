"""The ceiling of a scrape: the time that prometheus_client needs to render a page, read from standard input."""

import sys
import time
from collections.abc import Iterable

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

_TIMES = 3


class Rendered(msgspec.Struct, frozen=True):
    """The shortest time of rendering in seconds, and the CPU seconds."""

    seconds: float
    cpu: float


class _Families:
    """Families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _render(families: _Families) -> Rendered:
    began, cpu = time.perf_counter(), time.process_time()
    generate_latest(families)
    return Rendered(time.perf_counter() - began, time.process_time() - cpu)


if __name__ == "__main__":
    page = _Families(text_string_to_metric_families(sys.stdin.read()))
    times = [_render(page) for _ in range(_TIMES)]
    best = Rendered(min(one.seconds for one in times), min(one.cpu for one in times))
    sys.stdout.buffer.write(msgspec.json.encode(best))
