"""Notices when the process has no free file descriptor.

The event loop then closes new connections by itself: no request arrives that could be refused, logged or counted.
"""

import asyncio
import errno
import os

from prometheus_client import Counter

from shared.logs import get_logger
from shared.waiting import is_set_within

CHECK_SECONDS = 1.0
"""How often the process checks whether it has a free file descriptor, in seconds."""

EXHAUSTED = Counter(
    "promgithub_file_descriptors_exhausted",
    "Checks, about one a second, that found no free file descriptor. New connections are closed meanwhile.",
    registry=None,
)
"""The metric of this process. Each of its registries has it."""

_NONE_FREE = frozenset([errno.EMFILE, errno.ENFILE])

_log = get_logger(__name__)


async def watch(stop: asyncio.Event) -> None:
    """Check for a free file descriptor until `stop` is set; count and log when there is none."""
    free = True
    while not await is_set_within(stop, CHECK_SECONDS):
        before, free = free, _is_one_free()
        if not free:
            EXHAUSTED.inc()
        if before and not free:
            _log.error("no free file descriptor; new connections are closed", todo="raise the limit (ulimit -n)")
        elif free and not before:
            _log.info("there are free file descriptors again")


def _is_one_free() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _NONE_FREE
    return True
