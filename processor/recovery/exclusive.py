"""Work that only one process may do at a time. The process holds a lease while it works."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from processor.store import Store
from processor.store.lease import Lease, granted
from shared.errors import BusyError

_Result = TypeVar("_Result")


async def run_exclusively(store: Store, lease: Lease, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Hold `lease`, run `work`, and return its result.

    Raises `BusyError` if another process holds the lease, and `StoreUnavailable`. `work` must call `check_lease`
    before each step.
    """
    if not await lease.take():
        raise await _busy(store, lease)
    ended = asyncio.Event()
    keeping = asyncio.create_task(lease.keep(ended))
    try:
        return await work()
    finally:
        ended.set()
        await keeping


def check_lease(lease: Lease) -> None:
    """Raise `BusyError` if the process has lost the lease."""
    if not lease.held:
        raise BusyError(f"{lease.name}: the database was unavailable for too long; another process may continue")


async def _busy(store: Store, lease: Lease) -> BusyError:
    async with store.connection() as connection:
        grant = await granted(connection, lease.name)
    holder = grant.holder if grant else "another process"
    return BusyError(f"{lease.name}: already running in {holder}; try again later")
