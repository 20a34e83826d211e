"""Writing with shared commits: whatever waits while a transaction is on its way to disk goes into the next one."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from shared.errors import BrokerUnavailable
from shared.logs import get_logger

_Result = TypeVar("_Result")

Operation = Callable[[sqlite3.Connection], _Result]
"""Something to do within a transaction; it must not fail for reasons of its own."""

_log = get_logger(__name__)


class Writer:
    """Does operations in a thread, in their order, many to a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection` is used by this writer's thread alone."""
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "spool")
        self._waiting: list[tuple[Operation[Any], asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self.commits = 0

    async def do(self, operation: Operation[_Result]) -> _Result:
        """Return what `operation` returns, once it is on disk. Raises `BrokerUnavailable` if it could not be written.

        If the caller is cancelled, the operation may still be done.
        """
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def vacuum(self, pages: int) -> None:
        """Give up to so many unused pages back to the file system; between transactions, of which it is none."""
        # Not `execute`: it would take the first step only, which frees one page.
        script = f"PRAGMA incremental_vacuum({pages})"
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.executescript, script)

    async def close(self) -> None:
        """Finish what was asked for."""
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await loop.run_in_executor(self._thread, self._transaction, [done for done, _ in batch])
            except sqlite3.Error as error:
                _log.error("the spool cannot be written", error=str(error))
                self._settle(batch, [BrokerUnavailable(f"the spool cannot be written ({error})")] * len(batch))
            else:
                self._settle(batch, results)

    def _settle(self, batch: list[tuple[Operation[Any], asyncio.Future[Any]]], results: list[Any]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():  # nobody waits any more
                continue
            if isinstance(result, BrokerUnavailable):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _transaction(self, operations: list[Operation[Any]]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [operation(connection) for operation in operations]
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.commits += 1
        return results
