"""What `/metrics` says, from metric families: as text or as OpenMetrics, whole or compressed.

Two kinds of families stand beside each other: those of prometheus_client, which it writes itself, and those that write
their own samples because there are too many to make an object of each.
"""

import io
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

OPENMETRICS = "application/openmetrics-text"
"""The media type of OpenMetrics."""

_END = b"# EOF\n"
_GZIP = 16 + zlib.MAX_WBITS


class Families(Protocol):
    """Metric families that can be written; a prometheus_client registry is one."""

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""


class WrittenMetric(Metric, ABC):
    """A family that has no `samples`, but writes them."""

    @abstractmethod
    def lines(self, openmetrics: bool) -> Iterator[str]:
        """Yield the samples in pieces of whole lines, of 1 MB at most: making one may hold up all other threads."""


def content_type(openmetrics: bool) -> str:
    """Return the `Content-Type` of a page."""
    return choose_encoder(_accepting(openmetrics))[1]


def page(families: Families, *, openmetrics: bool, compressed: bool = False) -> bytes:
    """Return what a scraper gets. This takes long for many families: not for an event loop."""
    packer = zlib.compressobj(level=1, wbits=_GZIP) if compressed else None
    body = io.BytesIO()
    for piece in _pieces(families, openmetrics):
        body.write(packer.compress(piece) if packer else piece)
    if packer:
        body.write(packer.flush())
    return body.getvalue()


def _pieces(families: Families, openmetrics: bool) -> Iterator[bytes]:
    encode, _ = choose_encoder(_accepting(openmetrics))
    for family in families.collect():
        # Of a family that writes its own samples, this is what introduces them.
        yield encode(_Only(family if openmetrics else _without_created(family))).removesuffix(_END)
        if isinstance(family, WrittenMetric):
            yield from (lines.encode() for lines in family.lines(openmetrics))
    if openmetrics:
        yield _END


def _accepting(openmetrics: bool) -> str:
    return OPENMETRICS if openmetrics else ""


class _Only:
    """One family, as what prometheus_client writes."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _without_created(family: Metric) -> Metric:
    """Leave out the time at which each series began: only OpenMetrics has a place for that."""
    created = f"{family.name}_created"
    family.samples = [sample for sample in family.samples if sample.name != created]
    return family
