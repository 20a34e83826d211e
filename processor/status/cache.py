"""Keeps answers for some seconds, and computes one at a time, however many people look."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from shared.errors import StoreError

KEPT = 64
"""Maximum number of answers that are kept."""

SHARE = 0.1
"""Maximum share of the time in which an answer is computed: an answer that takes long is kept for longer."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """The last answer, or None if there was none yet; and why there is no newer one, or "" if it is new."""

    value: T | None
    trouble: str = ""


class Cache:
    """Answers by key."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Each answer is kept for so many seconds at least. `clock` returns seconds."""
        self._seconds = seconds
        self._clock = clock
        self._computing = asyncio.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, Known[object]]] = OrderedDict()

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> Known[T]:
        """Return what is known under a key. If the store cannot be read, this is the last answer, and why."""
        until, known = self._found(key)
        if self._clock() < until:
            return cast(Known[T], known)  # a key has answers of one type
        async with self._computing:
            until, known = self._found(key)
            began = self._clock()
            if began < until:
                return cast(Known[T], known)
            try:
                known = Known(await compute())
            except StoreError as error:
                known = Known(known.value, str(error))
            except TimeoutError:
                known = Known(known.value, "the database has not answered in time")
            ended = self._clock()
            self._kept[key] = ended + max(self._seconds, (ended - began) / SHARE), known
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return cast(Known[T], known)

    def _found(self, key: Hashable) -> tuple[float, Known[object]]:
        """Return the last answer under a key, and until when it is kept."""
        return self._kept.get(key, (float("-inf"), Known(None)))
