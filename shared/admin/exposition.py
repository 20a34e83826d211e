"""The page `/metrics`, from metric families: in the Prometheus text format or as OpenMetrics, with or without gzip.

There are two kinds of families. prometheus_client writes its own. A `StreamedFamily` writes its samples itself, because
it has too many to create an object for each.
"""

import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

OPENMETRICS = "application/openmetrics-text"
"""The media type of OpenMetrics."""

SCRAPER_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"
"""The header with which a scraper says how long it waits. Prometheus (scrape/scrape.go) and vmagent send it."""

_END = b"# EOF\n"
_GZIP = 16 + zlib.MAX_WBITS


class Families(Protocol):
    """A collection of metric families, such as a prometheus_client registry."""

    def collect(self) -> Iterable[Metric]:
        """Yield every family. Raises `OutdatedError` at the end if they may no longer be exposed."""


class StreamedFamily(Metric, ABC):
    """A family whose `samples` is empty: `lines` writes the samples instead."""

    @abstractmethod
    def lines(self, *, openmetrics: bool, to_scraper: bool) -> Iterator[str]:
        """Yield the samples in pieces of whole lines. A piece has at most 1 MB: creating it may block other threads.

        `to_scraper` is True if a scraper asked for the page: see `asks_as_scraper`.
        """


def asks_for_openmetrics(accept: str) -> bool:
    """Return whether this `Accept` header asks for OpenMetrics, by the rules of prometheus_client."""
    try:
        return choose_encoder(accept)[1].startswith(OPENMETRICS)
    except TypeError:  # the header has a version that is not a number
        return False


def asks_as_scraper(headers: Mapping[str, str]) -> bool:
    """Return whether a request is a scrape by Prometheus, or by a program that uses its scraper or does the same."""
    return SCRAPER_HEADER in headers


def content_type(openmetrics: bool) -> str:
    """Return the `Content-Type` of the page."""
    return choose_encoder(_accepting(openmetrics))[1]


def page(families: Families, *, openmetrics: bool, compressed: bool = False, to_scraper: bool = False) -> bytes:
    """Return the page. With many series this takes long, so call it in a thread and not on the event loop."""
    packer = zlib.compressobj(level=1, wbits=_GZIP) if compressed else None
    body = io.BytesIO()
    for piece in _pieces(families, openmetrics, to_scraper):
        body.write(packer.compress(piece) if packer else piece)
    if packer:
        body.write(packer.flush())
    return body.getvalue()


def _pieces(families: Families, openmetrics: bool, to_scraper: bool) -> Iterator[bytes]:
    encode, _ = choose_encoder(_accepting(openmetrics))
    for family in sorted(families.collect(), key=_place):  # stable: a source may count on its own order
        # For a `StreamedFamily`, this is only `# HELP` and `# TYPE`.
        yield encode(_SingleFamily(family if openmetrics else _without_created(family))).removesuffix(_END)
        if isinstance(family, StreamedFamily):
            yield from (lines.encode() for lines in family.lines(openmetrics=openmetrics, to_scraper=to_scraper))
    if openmetrics:
        yield _END


def _place(family: Metric) -> int:
    """Return the part of the page for a family: metrics about CI, of promgithub itself, of the process and runtime."""
    if isinstance(family, StreamedFamily):
        return 0
    return 1 if family.name.startswith("promgithub_") else 2


def _accepting(openmetrics: bool) -> str:
    return OPENMETRICS if openmetrics else ""


class _SingleFamily:
    """One family, as a registry that prometheus_client can encode."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _without_created(family: Metric) -> Metric:
    """Remove the samples `…_created`, the start time of each series: only OpenMetrics defines them."""
    created = f"{family.name}_created"
    family.samples = [sample for sample in family.samples if sample.name != created]
    return family
