"""The start and the stop of every process: the admin listener, the broker connection, the tasks."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.admin.health import Check, all_pass, states
from shared.admin.server import AdminServer
from shared.descriptors import watch
from shared.waiting import is_set_within, pauses

FIRST_CHECK_PAUSE = 0.05
"""Maximum pause after the first look whether the process is ready, in seconds."""

LONGEST_CHECK_PAUSE = 1.0
"""Maximum pause between two looks whether the process is ready, in seconds."""

Work = Callable[[asyncio.Event], Awaitable[None]]
"""A task that runs until the event is set, and then finishes the deliveries or requests that it holds."""


class Connected(Protocol):
    """A connection that is opened before the tasks start and closed after they end, such as a broker."""

    async def start(self) -> None:
        """Start to connect and return at once."""

    async def close(self) -> None:
        """Disconnect, within a bounded time."""


@dataclass(frozen=True, slots=True)
class Start:
    """What happens when a process is ready: `say` is called once, when all `checks` pass for the first time."""

    checks: Mapping[str, Check]
    say: Callable[[], None]


YOUNG_OBJECTS = 50_000
"""How many more objects are made than freed until the garbage collection looks at the new ones."""


async def serve(admin: AdminServer, broker: Connected, stop: asyncio.Event, start: Start, *works: Work) -> None:
    """Listen, connect and run the tasks until `stop` is set; then let them finish, within 25 s, and close.

    The broker need not be reachable at the start. If one task raises an error, the others are cancelled and the error
    is raised.
    """
    settle()
    try:
        await admin.start()
        await broker.start()
        async with asyncio.TaskGroup() as tasks:
            for work in (watch, *works):
                tasks.create_task(_run(work, stop))
            tasks.create_task(_say_when_ready(start, stop))
            await stop.wait()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None if len(group.exceptions) == 1 else group
    finally:
        await admin.close()
        await broker.close()


def settle() -> None:
    """Exclude all existing objects from garbage collection, as modules and classes are never freed; collect less often.

    Otherwise each full collection would scan all of them, and block every thread for 0.1 s or more. Requests and
    deliveries in progress are thousands of objects, and none of them is garbage: with the default threshold of 700 new
    objects, collections that find nothing take a fifth of the CPU time of a receiver with 256 connections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def _run(work: Work, stop: asyncio.Event) -> None:
    await work(stop)


async def _say_when_ready(start: Start, stop: asyncio.Event) -> None:
    for pause in pauses(FIRST_CHECK_PAUSE, LONGEST_CHECK_PAUSE):
        if all_pass(await states(start.checks)):
            start.say()
            return
        if await is_set_within(stop, pause):
            return
