"""Waiting with a timeout, and the pauses between attempts."""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def pauses(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: exponential backoff from `first` up to `longest`.

    Each pause is shortened at random by up to one half, so that clients that failed at the same time do not retry at
    the same time.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(2 * pause, longest)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait at most `seconds` until `event` is set; return whether it is."""
    try:
        # Not `wait_for`: before Python 3.12 it loses a cancellation that arrives at the same time as the result.
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def unless(event: asyncio.Event, work: Coroutine[object, object, _Result]) -> _Result | None:
    """Return the result of `work`, or None if `event` is set first. `work` is then cancelled, and has ended."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.wait({working, waiting})


class Deadlines:
    """Times futures out, with one timer for all of them: a timer for each future would cost too much CPU."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long a future may take."""
        self._seconds = seconds
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()  # in the order of their ends
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, future: "asyncio.Future[Any]") -> None:
        """Make a future raise `TimeoutError` if it is not done in time."""
        loop = future.get_loop()
        self._drop_done()
        self._waiting.append((loop.time() + self._seconds, future))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._end, loop)

    def _drop_done(self) -> None:
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._waiting and (self._waiting[0][0] <= now or self._waiting[0][1].done()):
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError())
        self._timer = loop.call_at(self._waiting[0][0], self._end, loop) if self._waiting else None
