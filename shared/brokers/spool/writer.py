"""Group commit: operations that arrive during a commit wait, and share the next transaction."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from shared.brokers.spool import rows
from shared.brokers.spool.file import Condition, SpoolFile, is_damage, is_lack_of_room
from shared.brokers.spool.requests import Kind, Request, fail, next_group, settle
from shared.brokers.spool.rows import State
from shared.brokers.spool.transactions import Committed, Operation, Transactions
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.waiting import is_set_within

WRITE_SECONDS = 5.0
"""Timeout of a transaction, in seconds. GitHub's timeout is 10 s. A slower disk counts as unavailable."""

CLOSE_SECONDS = 2.0
"""How long `close` waits for the pending operations, and then for the file to close, in seconds."""

PROBE_SECONDS = 1.0
"""How often the writer checks for changes by other processes and, after a failure, for writability, in seconds."""

_Result = TypeVar("_Result")

_log = get_logger(__name__)


class Writer:
    """Runs operations in a thread, in their order, several per transaction."""

    def __init__(self, committed: Callable[[], None]) -> None:
        """`committed` is called after each transaction."""
        self._committed = committed
        self._thread = ThreadPoolExecutor(1, "spool")
        self._transactions: Transactions | None = None
        self._waiting: list[Request] = []
        self._work = asyncio.Event()
        self._untidy = False
        self._damage = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = asyncio.Event()
        self.state = State()
        """The state after the last commit."""
        self._condition = Condition()
        self._works = False
        self._accepting = asyncio.Event()
        self.trouble = "it is not open"
        """Why it accepts no deliveries, or did not the last time."""

    async def open(self, directory: Path, companion: Path | None) -> None:
        """Open the spool in a directory and start the tasks. Raises `SettingsError` if the directory cannot be used.

        `companion` is that of `SpoolFile`.
        """
        file, self.state, condition = await self._in_thread(_opened, directory, companion)
        self._transactions = Transactions(file)
        self._works_again()
        self._notice(condition)
        self._tasks = [asyncio.create_task(self._keep_writing()), asyncio.create_task(self._keep_probing())]

    @property
    def is_open(self) -> bool:
        """Whether the writer accepts operations."""
        return self._transactions is not None and not self._closed.is_set()

    @property
    def commits(self) -> int:
        """Number of transactions."""
        return 0 if self._transactions is None else self._transactions.commits

    @property
    def accepts(self) -> bool:
        """Whether the last transaction succeeded, and deliveries may be added."""
        return self._accepting.is_set()

    async def accepts_within(self, seconds: float) -> bool:
        """Wait at most `seconds` until the writer accepts deliveries; return whether it does."""
        return await is_set_within(self._accepting, seconds)

    def submit(
        self, operation: Operation[_Result], kind: Kind = Kind.OTHER, size: int = 0, *, patient: bool = False
    ) -> "asyncio.Future[_Result]":
        """Queue an operation; return a future of its result, which is set once the transaction is on disk.

        `size` is how many bytes of payloads it adds. Raises `BrokerUnavailable` if the writer is closed. The future
        raises it if the write failed, if the disk has no room for it, or if it took longer than `WRITE_SECONDS`, unless
        it is `patient`. A late operation may still be written; its result is then lost.
        """
        if not self.is_open:
            raise BrokerUnavailable("the spool is not open")
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(Request(operation, future, kind, size, patient))
        self._work.set()
        return future

    def tidy(self) -> None:
        """Return unused space to the file system once no operation waits."""
        self._untidy = True
        self._work.set()

    async def close(self) -> None:
        """Finish the pending operations, within a bounded time; then unlock the directory."""
        self._closed.set()
        self._work.set()
        if self._transactions is not None:
            _, unfinished = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in unfinished:
                task.cancel()
            # If the disk does not answer in time, the thread closes the file later. The directory stays locked.
            closing = asyncio.ensure_future(self._in_thread(self._transactions.file.close))
            if not (await asyncio.wait({closing}, timeout=CLOSE_SECONDS))[0]:
                _log.error("the spool's disk does not answer; unconfirmed deliveries may be lost")
            elif error := closing.exception():
                _log.warning("the spool could not be closed cleanly", error=str(error))
        fail(self._take(), "the spool was closed")
        self._transactions = None
        self._works = False
        self._accepting.clear()
        self._thread.shutdown(wait=False)

    async def _keep_writing(self) -> None:
        while self._waiting or not self._closed.is_set():
            if self._waiting:
                taken, self._waiting = next_group(self._waiting)
                await self._write(taken)
            elif self._untidy:
                self._untidy = await self._tidied()
            else:
                self._work.clear()
                await self._work.wait()

    async def _write(self, group: Sequence[Request]) -> None:
        """Run a group of operations, and set the result or the error of each future."""
        if self._damage and not await self._replaced():
            fail(group, "the spool was damaged, and no new file could be created")
            return
        group = self._admitted(group)
        try:
            committed = await self._watched(group, self._thread_side.run, self.state, [one.operation for one in group])
        except sqlite3.Error as error:
            if is_lack_of_room(error) and await self._released():
                await self._write(group)  # except what adds a delivery: it is not admitted any more
                return
            self._broken(str(error))
            fail(group, f"the spool cannot be written ({error})")
            if is_damage(error):
                self._damage = str(error)
                await self._replaced()
        else:
            self._settle_all(group, committed)
        self._committed()

    def _admitted(self, group: Sequence[Request]) -> Sequence[Request]:
        """Return the operations that the condition of the spool allows; fail the others."""
        condition = self._condition
        if not condition.refusal:
            return group
        fail([one for one in group if one.kind is Kind.ADD], condition.refusal)
        if condition.cramped:
            fail([one for one in group if one.kind is Kind.HAND_OUT], condition.refusal)
        return [one for one in group if not one.future.done()]

    def _settle_all(self, group: Sequence[Request], committed: Committed) -> None:
        self.state = committed.state
        self._works_again()
        self._notice(committed.condition)
        for one, result in zip(group, committed.results, strict=True):
            if committed.condition.lost and one.kind is Kind.ADD:
                fail([one], committed.condition.refusal)
            else:
                settle(one.future, result)

    async def _released(self) -> bool:
        """Release the reserve of disk space; return False if it was released before."""
        try:
            if not await self._watched((), self._thread_side.file.release_reserve):
                return False
        except OSError as error:
            _log.error("the reserve of disk space could not be released", error=str(error))
            return False
        self._notice(Condition("the disk is full"))
        return True

    async def _watched(self, group: Sequence[Request], function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run a function in the thread for a group of requests, however long it takes; return its result.

        Every `WRITE_SECONDS`, the requests that wait meanwhile fail, unless they are patient. So do those of the group,
        although they may still be written.
        """
        job = asyncio.ensure_future(self._in_thread(function, *arguments))
        try:
            while not (await asyncio.wait({job}, timeout=WRITE_SECONDS))[0]:
                self._broken(f"no answer within {WRITE_SECONDS:g} s")
                late = [*group, *self._take()]
                self._waiting = [one for one in late[len(group) :] if one.patient]
                fail([one for one in late if not one.patient], f"not written within {WRITE_SECONDS:g} s")
        except asyncio.CancelledError:
            fail(group, "the spool was closed before it was written")
            raise
        return job.result()

    async def _replaced(self) -> bool:
        """Replace a damaged file with a new one; return whether that succeeded.

        Consumers keep the deliveries of the old file that they hold. The new file may contain them too.
        """
        try:
            self.state = await self._watched((), self._thread_side.replace, self.state, self._damage)
        except (sqlite3.Error, OSError) as error:
            _log.error("no new spool file could be created", error=str(error))
            return False
        self._damage = ""
        self._works_again()
        return True

    async def _keep_probing(self) -> None:
        """Write about once a second, count the rows again after writes of other processes, and check the disk.

        The disk may fail while nothing arrives.

        Without this, nothing would try: no delivery is published while the spool reports that it is unavailable.
        """
        while not await is_set_within(self._closed, PROBE_SECONDS):
            if not self._waiting or self._works:
                self.submit(rows.probe).add_done_callback(asyncio.Future.exception)  # retrieved: nobody awaits it

    async def _tidied(self) -> bool:
        """Free some unused pages; return whether there are more."""
        try:
            return await self._watched((), partial(self._thread_side.vacuum, completely=bool(self._condition.refusal)))
        except sqlite3.Error as error:
            _log.warning("the spool file could not be shrunk", error=str(error))
            return False

    @property
    def _thread_side(self) -> Transactions:
        assert self._transactions is not None  # noqa: S101 - operations run only after `open`
        return self._transactions

    async def _in_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _take(self) -> Sequence[Request]:
        taken, self._waiting = self._waiting, []
        return taken

    def _broken(self, error: str) -> None:
        if self._works:
            _log.error("the spool cannot be written; it accepts no deliveries until it can", error=error)
        self.trouble = error
        self._works = False
        self._accepting.clear()

    def _works_again(self) -> None:
        if not self._works and self._tasks:
            _log.info("the spool can be written again")
        self._works = True

    def _notice(self, condition: Condition) -> None:
        """Log what has changed, and accept deliveries or not."""
        before, self._condition = self._condition, condition
        if condition.refusal and not before.refusal:
            todo = "see the runbook: A file was removed" if condition.lost else "make room; the spool drains meanwhile"
            _log.error("the spool accepts no deliveries", reason=condition.refusal, todo=todo)
        elif before.refusal and not condition.refusal:
            _log.info("the spool accepts deliveries again")
        self.trouble = condition.refusal or self.trouble
        if self._works and not condition.refusal:
            self._accepting.set()
        else:
            self._accepting.clear()


def _opened(directory: Path, companion: Path | None) -> tuple[SpoolFile, State, Condition]:
    file = SpoolFile(directory, companion)
    return file, rows.load_state(file.connection, generation=0), file.condition()
