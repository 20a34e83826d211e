"""Writing with shared commits: whatever waits while a transaction is on its way to disk goes into the next one."""

import asyncio
import copy
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.spool import rows
from shared.spool.file import SpoolFile, is_damage
from shared.spool.rows import State
from shared.waiting import is_set_within

WRITE_SECONDS = 5.0
"""Deadline of a transaction, of GitHub's ten seconds; a disk that needs longer counts as away."""

CLOSE_SECONDS = 2.0
"""How long `close` waits for what was asked for, and then for the file to be closed."""

PROBE_SECONDS = 1.0
"""Seconds between looks at the file: whether another process has changed it, and whether it can be written again."""

KEPT_PAGES = 4096
"""Unused pages (of 4 KiB) that stay in the file, so that a queue which is often empty does not resize it each time."""

VACUUM_PAGES = 1024
"""Unused pages given back at once; a publish may have to wait for that."""

_Result = TypeVar("_Result")

Operation = Callable[[sqlite3.Connection, State], _Result]
"""Something to do within a transaction, to the file and to a copy of the state that takes effect with the commit."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    operation: Operation[Any]
    future: asyncio.Future[Any]
    patient: bool


class Writer:
    """Does operations in a thread, in their order, many to a transaction."""

    def __init__(self, committed: Callable[[], None]) -> None:
        """`committed` is called after each transaction."""
        self._committed = committed
        self._thread = ThreadPoolExecutor(1, "spool")
        self._file: SpoolFile | None = None
        self._waiting: list[_Request] = []
        self._work = asyncio.Event()
        self._untidy = False
        self._damage = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()
        self.state = State()
        """As of the last commit."""
        self.commits = 0
        self.works = False
        """Whether the last transaction could be written."""

    async def open(self, directory: Path) -> None:
        """Begin to work on a directory. Raises `SettingsError` if it cannot be had."""
        self._file, self.state = await self._in_thread(_opened, directory)
        self.works = True
        self._tasks = [asyncio.create_task(self._keep_writing()), asyncio.create_task(self._keep_probing())]

    @property
    def is_open(self) -> bool:
        """Whether operations are taken."""
        return self._file is not None and not self._closed.is_set()

    def submit(self, operation: Operation[_Result], *, patient: bool = False) -> "asyncio.Future[_Result]":
        """Return the future of what `operation` returns, which is there once it is on disk.

        Raises `BrokerUnavailable`, now if closed, or in the future if it could not be written. Unless `patient`, also
        if it took too long; it may still be written then, and what it returns is lost.
        """
        if not self.is_open:
            raise BrokerUnavailable("the spool is not open")
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(operation, future, patient))
        self._work.set()
        return future

    def tidy(self) -> None:
        """Give unused space back to the file system as soon as there is nothing else to do."""
        self._untidy = True
        self._work.set()

    async def close(self) -> None:
        """Finish what was asked for, within a bounded time; then let another process have the directory."""
        self._closed.set()
        self._work.set()
        if self._file is not None:
            _, unfinished = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in unfinished:
                task.cancel()
            # Should the thread not come to it in time, it does when the disk answers, and until then has the directory.
            closing = asyncio.ensure_future(self._in_thread(self._file.close))
            if not (await asyncio.wait({closing}, timeout=CLOSE_SECONDS))[0]:
                _log.error("the spool's disk does not answer; what was not confirmed may be lost")
            elif error := closing.exception():
                _log.warning("the spool was not closed in order", error=str(error))
        _fail(self._take(), "the spool was closed")
        self._file, self.works = None, False
        self._thread.shutdown(wait=False)

    async def _keep_writing(self) -> None:
        while self._waiting or not self._closed.is_set():
            if self._waiting:
                await self._write(self._take())
            elif self._untidy:
                self._untidy = await self._tidied()
            else:
                self._work.clear()
                await self._work.wait()

    async def _write(self, group: Sequence[_Request]) -> None:
        """Do a group of operations; those who wait for one are told if it could not be written."""
        if self._damage and not await self._replaced():
            _fail(group, "the spool was damaged, and no new one could be begun")
            return
        operations = [one.operation for one in group]
        try:
            self.state, results = await self._watched(group, self._transactions, self.state, operations)
        except sqlite3.Error as error:
            self._broken(str(error))
            _fail(group, f"the spool cannot be written ({error})")
            if is_damage(error):
                self._damage = str(error)
                await self._replaced()
        else:
            self._works_again()
            for one, result in zip(group, results, strict=True):
                _settle(one.future, result)
        self._committed()

    async def _watched(
        self, group: Sequence[_Request], function: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Return what the thread makes of a function, for a group and however long that takes.

        Only those who asked do not wait so long: the group, which may still be written, and those who come meanwhile.
        """
        job = asyncio.ensure_future(self._in_thread(function, *arguments))
        try:
            while not (await asyncio.wait({job}, timeout=WRITE_SECONDS))[0]:
                self._broken(f"no answer within {WRITE_SECONDS:g} s")
                late = [*group, *self._take()]
                self._waiting = [one for one in late[len(group) :] if one.patient]
                _fail([one for one in late if not one.patient], f"not written within {WRITE_SECONDS:g} s")
        except asyncio.CancelledError:
            _fail(group, "the spool was closed before it was written")
            raise
        return job.result()

    def _transactions(self, state: State, operations: Sequence[Operation[Any]]) -> tuple[State, list[Any]]:
        """Do operations in one transaction, or each in its own if one of them is at fault.

        Returns the state after them and their results, among which are the errors of those at fault. Raises
        `sqlite3.Error` if it is the file.
        """
        try:
            return self._transaction(state, operations)
        except Exception as error:
            if isinstance(error, sqlite3.OperationalError) or is_damage(error):
                raise
        results: list[Any] = []
        for operation in operations:
            try:
                state, (result,) = self._transaction(state, [operation])
            except Exception as error:  # noqa: BLE001 - it is for the one who asked for the operation
                result = error
            results.append(result)
        return state, results

    def _transaction(self, before: State, operations: Sequence[Operation[Any]]) -> tuple[State, list[Any]]:
        connection, state = self._connection(), copy.copy(before)
        if connection.in_transaction:  # the last one could not even be rolled back
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [operation(connection, state) for operation in operations]
            connection.execute("COMMIT")
        except Exception:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.commits += 1
        return state, results

    async def _replaced(self) -> bool:
        """Begin a new file instead of a damaged one; return whether there is one.

        What consumers have of the old one stays with them, and is not in the new one.
        """
        try:
            self.state = await self._watched((), self._replace, self._damage)
        except (sqlite3.Error, OSError) as error:
            _log.error("no new spool could be begun", error=str(error))
            return False
        self._damage = ""
        self._works_again()
        return True

    def _replace(self, damage: str) -> State:
        assert self._file is not None  # noqa: S101 - only an open one can turn out to be damaged
        self._file.replace(damage)
        return rows.load(self._file.connection, self.state.generation + 1)

    async def _keep_probing(self) -> None:
        """Notice what other processes write; and while the file cannot be written, try.

        Publishes may stay away then, as long as they are told so.
        """
        while not await is_set_within(self._closed, PROBE_SECONDS):
            if not self._waiting or self.works:
                probing = rows.notice if self.works else _probe
                self.submit(probing).add_done_callback(asyncio.Future.exception)  # nobody waits for it

    async def _tidied(self) -> bool:
        """Give some space back; return whether there is more to give."""
        try:
            return await self._watched((), self._vacuum)
        except sqlite3.Error as error:
            _log.warning("unused space could not be given back", error=str(error))
            return False

    def _vacuum(self) -> bool:
        connection = self._connection()
        (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
        surplus = int(unused) - KEPT_PAGES
        if surplus <= 0:
            return False
        # Not `execute`: it would take the first step only, which frees one page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(surplus, VACUUM_PAGES)})")
        if surplus > VACUUM_PAGES:
            return True
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # which is what shortens the file itself
        return False

    def _connection(self) -> sqlite3.Connection:
        assert self._file is not None  # noqa: S101 - nothing is asked of the thread before it is open
        return self._file.connection

    async def _in_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _take(self) -> Sequence[_Request]:
        taken, self._waiting = self._waiting, []
        return taken

    def _broken(self, error: str) -> None:
        if self.works:
            _log.error("the spool cannot be written; nothing is accepted until it can", error=error)
        self.works = False

    def _works_again(self) -> None:
        if not self.works:
            _log.info("the spool can be written again")
        self.works = True


def _opened(directory: Path) -> tuple[SpoolFile, State]:
    file = SpoolFile(directory)
    return file, rows.load(file.connection, generation=0)


def _probe(connection: sqlite3.Connection, _state: State) -> None:
    """Write something that changes nothing."""
    connection.execute("PRAGMA user_version = 0")


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if future.done():  # nobody waits any more
        return
    if isinstance(result, sqlite3.Error):
        future.set_exception(BrokerUnavailable(f"the spool does not take it ({result})"))
    elif isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _fail(group: Sequence[_Request], reason: str) -> None:
    for one in group:
        _settle(one.future, BrokerUnavailable(reason))
