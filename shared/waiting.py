"""Waiting that ends early, and how long to wait between attempts."""

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import TypeVar

_Result = TypeVar("_Result")


def pauses(first: float, longest: float) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: twice as long each time, up to `longest`.

    Each is shortened at random by up to a half, so that what failed at the same time does not come back at the same
    time.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - no secret
        pause = min(2 * pause, longest)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set, at most so long; return whether it is."""
    try:
        # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes together with what it waits for.
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def unless(event: asyncio.Event, work: Coroutine[object, object, _Result]) -> _Result | None:
    """Return what `work` returns, or None if `event` is set first; `work` is cancelled then."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
