"""Doing alone what only one may do at a time, in whichever process: a lease is held meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from processor.lease import Lease
from processor.store import Store, leases
from shared.errors import BusyError, StoreError

_Result = TypeVar("_Result")


async def alone(store: Store, lease: Lease, work: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return what `work` returns, done while `lease` is held.

    Raises `BusyError` if somebody else holds it. `work` has to look at `lease.held` before each thing that it does.
    """
    await lease.attempt()
    if not lease.held:
        raise await _refusal(store, lease)
    ended = asyncio.Event()
    keeping = asyncio.create_task(lease.keep(ended))
    try:
        return await work()
    finally:
        ended.set()
        await keeping


def check(lease: Lease) -> None:
    """Raise `BusyError` if the lease has been lost."""
    if not lease.held:
        raise BusyError(f"{lease.name}: the database was away for too long; somebody else may go on with it")


async def _refusal(store: Store, lease: Lease) -> BusyError | StoreError:
    if not lease.database_up:
        return StoreError("the database cannot be reached")
    async with store.connection() as connection:
        grant = await leases.granted(connection, lease.name)
    holder = grant.holder if grant else "somebody else"
    return BusyError(
        f"{lease.name}: {holder} is at it right now, so there is no need to; if that one fails, try again later"
    )
