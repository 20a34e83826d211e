"""Generates any number of different deliveries at little cost.

It repeats one simulated history. Each edition has different IDs of runs, jobs and deliveries.
"""

import re
import secrets
import time
from collections.abc import Iterator
from itertools import count, islice

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery

SIZE = 2000
"""Deliveries in an edition."""

_SEED = 1
_IDENTIFIER = re.compile(rb"(?<![0-9a-f])(\d{16,17})(?![0-9a-f])")
_SHIFT = 1_000_000
"""Difference between the identifiers of two editions, larger than the number of identifiers in one."""

_NODE_DIGITS = 12


class Editions:
    """An endless supply of deliveries of 7 to 22 kB, 10.6 kB on average; no two are the same."""

    def __init__(self) -> None:
        history = Historian(_SEED).history(SIZE)
        self._originals = [(one, _IDENTIFIER.split(one.body)) for one in history.deliveries]
        self._supply = self._editions()

    def take(self, number: int) -> Iterator[Delivery]:
        """Return an iterator over the next deliveries."""
        return islice(self._supply, number)

    def _editions(self) -> Iterator[Delivery]:
        first = secrets.randbits(4 * _NODE_DIGITS - 1)
        for edition in count():
            node = f"{first + edition:0{_NODE_DIGITS}x}"
            for original, pieces in self._originals:
                guid = original.id[:-_NODE_DIGITS] + node
                yield Delivery(guid, original.event, _shifted(pieces, edition * _SHIFT), time.time_ns() // 1_000_000)


def _shifted(pieces: list[bytes], by: int) -> bytes:
    """Return a body with `offset` added to its identifiers, which are every second piece."""
    shifted = pieces.copy()
    shifted[1::2] = [b"%d" % (int(identifier) + by) for identifier in pieces[1::2]]
    return b"".join(shifted)
