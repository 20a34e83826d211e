"""What every process does around its work: the admin listener, the broker, and an orderly end."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Protocol

from shared.admin import AdminServer

Work = Callable[[asyncio.Event], Awaitable[None]]
"""Something that goes on until the event is set, and then finishes what it holds."""


class Connected(Protocol):
    """What is there before the work and after it, such as a broker."""

    async def start(self) -> None:
        """Begin to connect and return at once."""

    async def close(self) -> None:
        """Let go, within a bounded time."""


async def serve(admin: AdminServer, broker: Connected, stop: asyncio.Event, *works: Work) -> None:
    """Listen, connect and work until `stop` is set; then finish, within 25 s, and close.

    The broker need not be there yet. What a work raises ends the others and is raised.
    """
    settle()
    try:
        await admin.start()
        await broker.start()
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(_run(work, stop))
            await stop.wait()
            admin.drain()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None if len(group.exceptions) == 1 else group
    finally:
        await admin.close()
        await broker.close()


def settle() -> None:
    """Spare the garbage collector whatever lives by now: that is code, and stays as long as the process.

    A full collection would look at all of it again, and hold up every thread for 0.1 s and more.
    """
    gc.collect()
    gc.freeze()


async def _run(work: Work, stop: asyncio.Event) -> None:
    await work(stop)
