"""Compares `/metrics` before and after a simulation with the expected values."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from promgithub.simulation.truth import Figures, Sample, Truth, sample_of
from shared.errors import SimulationError

STILL = 10.0
"""Differing values are final after this time without a change and with an empty queue, in seconds."""

POLL = 0.5
"""How often the metrics are read while the queue drains, in seconds."""

SCRAPE_TIMEOUT = 30.0
"""Timeout of one page, in seconds."""

TOLERANCE = 0.0005
"""Half of the smallest possible difference: counts are integers, and sums are multiples of 1 ms."""

OF_PROCESSES = tuple(
    f"promgithub_{name}"
    for name in (
        *("webhook_", "broker_", "spool_"),  # receivers
        *("event_", "duplicate_deliveries_", "dead_letters", "last_event_", "series_"),  # processors
        *("recovered", "corrected", "recovery_", "github_api_", "runners"),  # recovery
        *("build", "database_", "exporter_leader", "file_descriptors_", "chore_", "retention_"),
    )
)
"""Prefixes of the metrics about the processes. They are not compared."""

_MOVING = ("_oldest_age_seconds", "_created")  # these change with the clock

_SETTLING = ("promgithub_job_queue_seconds", "promgithub_anomaly_total")

_LEADER = "promgithub_exporter_leader"
_DEPTH = "promgithub_event_queue_depth"
_UNSETTLED = "promgithub_unsettled"


@dataclass(frozen=True, slots=True)
class Difference:
    """A wrong value. Values from `least` to `most` are correct; `got` is the actual value, or None if it is missing.

    `known` is True if the series is expected. An unexpected series must not appear.
    """

    least: float
    most: float
    got: float | None
    known: bool = True

    @property
    def expected(self) -> float:
        """The nearest correct value."""
        return self.least if self.got is None else min(max(self.got, self.least), self.most)

    def __str__(self) -> str:
        allowed = f"{self.least:.12g}" + (f" to {self.most:.12g}" if self.most > self.least else "")
        must = f"must be {allowed}" if self.known else "must not appear"
        return f"{must}, {'is not shown' if self.got is None else f'is {self.got:.12g}'}"


Differences = Mapping[Sample, Difference]


@dataclass(frozen=True, slots=True)
class Reading:
    """The sums over all pages: the metrics about CI, the queue, and the pending increments.

    `waiting` is the number of deliveries in the queue. `unsettled` is the number of increments that are counted after
    GRACE without a delivery about their job.
    """

    figures: Figures
    waiting: float = 0.0
    unsettled: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The number of compared values, the wrong ones, and the number of pending increments."""

    compared: int
    differences: Differences
    unsettled: float = 0.0


class Pages:
    """The metrics pages of all processors, or of standalone."""

    def __init__(self, client: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        """`urls` must not be empty."""
        self._client = client
        self._urls = urls

    async def read(self) -> Reading:
        """Read the pages.

        Raises `SimulationError` if a page cannot be read or is not promgithub's, or if none exposes metrics about CI.
        """
        return read(await asyncio.gather(*map(self._text, self._urls)))

    async def drained(self, before: Reading, truth: Truth, seconds: float, *, settled: bool = False) -> Verdict:
        """Wait at most `seconds` until the values are correct or no longer change; return the verdict.

        With `settled`, also wait until nothing is pending. Tolerates pages that cannot be read for a while, such as
        during the restart of a processor. Raises `SimulationError` if no reading succeeded.
        """
        deadline = time.monotonic() + seconds
        changed_at, latest, verdict = time.monotonic(), before, None
        while True:
            try:
                reading = await self.read()
            except SimulationError:
                changed_at = time.monotonic()
                if changed_at >= deadline and verdict is None:
                    raise
            else:
                verdict = judge(truth, before, reading, settled=settled)
                if reading.figures != latest.figures or reading.waiting or (settled and reading.unsettled):
                    changed_at, latest = time.monotonic(), reading
                if not verdict.differences:
                    return verdict
            if verdict and time.monotonic() >= min(deadline, changed_at + STILL):
                return verdict
            await asyncio.sleep(POLL)

    async def _text(self, url: str) -> str:
        try:
            async with self._client.get(url, timeout=aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT)) as answer:
                answer.raise_for_status()
                text = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeDecodeError) as error:
            raise SimulationError(f"{url}: cannot be read ({error or type(error).__name__})") from None
        if "promgithub_" not in text:
            raise SimulationError(f"{url}: no metrics of promgithub there")
        return text


def read(texts: Iterable[str]) -> Reading:
    """Return the metrics about CI on several pages, summed like `sum()`.

    These are all of promgithub's metrics except those in `OF_PROCESSES`, ages and creation times. Raises
    `SimulationError` if a text is not in the Prometheus format, or if no page has metrics about CI.
    """
    figures: dict[Sample, float] = {}
    leaders = waiting = unsettled = 0.0
    try:
        samples = [s for text in texts for family in text_string_to_metric_families(text) for s in family.samples]
    except ValueError as error:
        raise SimulationError(f"a page of metrics is not in Prometheus' format ({error})") from None
    for sample in samples:
        if sample.name == _LEADER:
            leaders += sample.value
        elif sample.name == _DEPTH:
            waiting = max(waiting, sample.value)
        elif sample.name == _UNSETTLED:
            unsettled += sample.value
        elif is_compared(sample.name):
            key = sample_of(sample.name, sample.labels)
            figures[key] = figures.get(key, 0) + sample.value
    if not leaders:
        raise SimulationError("no processor at --metrics exposes metrics about CI; give the pages of all processors")
    return Reading(figures, waiting, unsettled)


def is_compared(name: str) -> bool:
    """Return whether to compare samples with this name: metrics about CI that change only after deliveries."""
    return name.startswith("promgithub_") and not name.startswith(OF_PROCESSES) and not name.endswith(_MOVING)


def judge(truth: Truth, before: Reading, after: Reading, *, settled: bool = False) -> Verdict:
    """Compare the increases of all values with the expected ones. Every expected series must be present.

    While increments are pending, a value may be anything between `at_once` and `settled`. With `settled`, none may be
    pending. Increments that were pending in `before` may have been counted since then, so they are tolerated.
    """
    least = truth.at_once if after.unsettled and not settled else truth.settled
    differences: dict[Sample, Difference] = {}
    for sample in {*truth.settled, *before.figures, *after.figures}:
        extra = _extra(sample, before.unsettled)
        low, high = least.get(sample, 0.0), truth.settled.get(sample, 0.0) + extra
        grown = after.figures.get(sample, 0.0) - before.figures.get(sample, 0.0)
        if sample in least and sample not in after.figures:
            differences[sample] = Difference(low, high, None)
        elif not extra and sample not in truth.settled and sample not in before.figures:
            differences[sample] = Difference(low, high, grown, known=False)
        elif not low - TOLERANCE <= grown <= high + TOLERANCE:
            differences[sample] = Difference(low, high, grown)
    if settled and after.unsettled:
        differences[_UNSETTLED, frozenset()] = Difference(0.0, 0.0, after.unsettled)
    return Verdict(len({*truth.settled, *after.figures}), differences, after.unsettled)


def _extra(sample: Sample, unsettled: float) -> float:
    """Return the tolerated additional increase of a value: the increments that were pending before."""
    name, _ = sample
    if not unsettled or not name.startswith(_SETTLING):
        return 0.0
    return math.inf if name.endswith("_sum") else unsettled
