"""A cache of the keys of existing rows, so that a process need not query them in every batch."""

import time
from collections.abc import Callable, Iterable

from processor.counting.fingerprints import Fingerprint

LIFETIME = 60.0
"""How long a key is cached, in seconds. Retention deletes only rows that are much older (`SERIES_TTL`)."""

MOST_RECENT_ROWS = 200_000
"""Maximum number of cached keys. When it is exceeded, the cache is cleared."""


class RecentRows:
    """Keys of rows that existed when a transaction of this process committed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._until: dict[Fingerprint, float] = {}

    def __contains__(self, key: Fingerprint) -> bool:
        return self._until.get(key, 0.0) > self._clock()

    def add(self, keys: Iterable[Fingerprint]) -> None:
        """Cache keys. Adding a cached key again does not extend its lifetime."""
        now = self._clock()
        if len(self._until) > MOST_RECENT_ROWS:
            self.clear()
        for key in keys:
            if self._until.get(key, 0.0) <= now:
                self._until[key] = now + LIFETIME

    def clear(self) -> None:
        """Clear the cache."""
        self._until.clear()
