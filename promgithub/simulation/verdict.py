"""What `/metrics` says before and after, held against the truth."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from promgithub.simulation.errors import SimulationError
from promgithub.simulation.truth import Figures, Sample

SETTLED = 10.0
"""Seconds without a change, and with an empty queue, after which figures that differ are taken to be final."""

POLL = 0.5
"""Seconds between looks at the metrics while the pipeline drains."""

SCRAPE_TIMEOUT = 30.0
"""Seconds that one page may take."""

TOLERANCE = 0.0005
"""Half of what any figure can differ by: counts are whole, and sums are of whole milliseconds."""

_PREFIXES = tuple(
    f"promgithub_{subject}_"
    for subject in ("workflow", "job", "push", "commit_pushed", "pull_request", "stale", "anomaly")
)
_LEADER = "promgithub_exporter_leader"
_DEPTH = "promgithub_event_queue_depth"

Differences = Mapping[Sample, tuple[float, float | None]]
"""For each figure that is not true: what it must be, and what it is; None if it is not shown at all."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all pages say together: the figures about CI, and how many deliveries wait in the queue."""

    figures: Figures
    waiting: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many figures were compared, and those that are not true."""

    compared: int
    differences: Differences


class Pages:
    """The metrics pages of all processors, or of standalone."""

    def __init__(self, client: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        """Without any URL there is nothing to judge by."""
        self._client = client
        self._urls = urls

    async def read(self) -> Reading:
        """Return what the pages say now.

        Raises `SimulationError` if one cannot be read, is not promgithub's, or if none of them exposes figures.
        """
        return read(await asyncio.gather(*map(self._text, self._urls)))

    async def drained(self, before: Reading, truth: Figures, seconds: float) -> Verdict:
        """Wait until the figures have grown by the truth or change no more, at most so many seconds; judge them.

        A page that cannot be read for a while is waited for: a processor restarts, or another takes over.
        Raises `SimulationError` if there was no reading at all.
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
                verdict = judge(truth, before.figures, reading.figures)
                if reading.figures != latest.figures or reading.waiting:
                    changed_at, latest = time.monotonic(), reading
                if not verdict.differences:
                    return verdict
            if verdict and time.monotonic() >= min(deadline, changed_at + SETTLED):
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
    """Return the figures about CI on several pages, summed as `sum()` does. Ages move with the clock: left out.

    Raises `SimulationError` if a text is not Prometheus' format, or if none is of the processor that exposes figures.
    """
    figures: dict[Sample, float] = {}
    leaders = waiting = 0.0
    try:
        samples = [s for text in texts for family in text_string_to_metric_families(text) for s in family.samples]
    except ValueError as error:
        raise SimulationError(f"a page of metrics is not in Prometheus' format ({error})") from None
    for sample in samples:
        if sample.name == _LEADER:
            leaders += sample.value
        elif sample.name == _DEPTH:
            waiting = max(waiting, sample.value)
        elif sample.name.startswith(_PREFIXES) and "_oldest_age_" not in sample.name:
            key = (sample.name, frozenset(sample.labels.items()))
            figures[key] = figures.get(key, 0) + sample.value
    if not leaders:
        raise SimulationError("no processor at --metrics exposes figures about CI; give the pages of all processors")
    return Reading(figures, waiting)


def judge(truth: Figures, before: Figures, after: Figures) -> Verdict:
    """Compare what figures have grown by with what they must have grown by; what is true must also be shown."""
    differences: dict[Sample, tuple[float, float | None]] = {}
    for sample in {*truth, *before, *after}:
        expected = truth.get(sample, 0.0)
        missing = sample in truth and sample not in after
        grown = after.get(sample, 0.0) - before.get(sample, 0.0)
        if missing or abs(expected - grown) > TOLERANCE:
            differences[sample] = (expected, None if missing else grown)
    return Verdict(len({*truth, *after}), differences)
