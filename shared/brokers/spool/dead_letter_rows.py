"""The dead letters of a spool, for a process that does not own its directory: `interface.DeadLetters`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from shared.brokers.interface import DeadLetter
from shared.brokers.spool import rows
from shared.brokers.spool.external_publisher import Room, unusable_as_error
from shared.brokers.spool.unlocked_file import UnlockedFile

NO_END = 2**63 - 1
"""The largest number that a letter can have in SQLite."""

_Result = TypeVar("_Result")


@asynccontextmanager
async def spool_dead_letters(directory: Path, size: int, max_bytes: int) -> AsyncIterator["SpoolDeadLetters"]:
    """Visit the dead letters of the spool in a directory. Another process may use the spool at the same time.

    `size` and `max_bytes` limit the queue that receives replayed letters. Raises `SettingsError` if there is no spool,
    or `BrokerUnavailable` if it cannot be used.
    """
    with unusable_as_error(directory):
        file = await asyncio.to_thread(UnlockedFile, directory)
    try:
        with unusable_as_error(directory):
            total, newest = await asyncio.to_thread(rows.letters, file.connection)
        yield SpoolDeadLetters(file, directory, Room(rows.Bounds(size, max_bytes, 0)), total, newest)
    finally:
        await asyncio.to_thread(file.close)


class SpoolDeadLetters:
    """One visit. Each operation is a separate transaction, so that another process never waits long."""

    def __init__(self, file: UnlockedFile, directory: Path, room: Room, total: int, newest: int) -> None:
        """`total` letters existed when the visit began; the newest has the number `newest`."""
        self._file = file
        self._directory = directory
        self._room = room
        self._total = total
        self._newest = newest
        self._turn = asyncio.Lock()

    @property
    def total(self) -> int:
        """How many dead letters there were when the visit began."""
        return self._total

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield them in the order in which they were dead-lettered."""
        after = 0
        while letter := await self._do(rows.letter_between, self._file.connection, after, self._newest):
            yield letter
            after = letter.number

    async def arrivals(self) -> AsyncIterator[DeadLetter]:
        """Yield them in the order in which they were dead-lettered."""
        while letter := await self._do(rows.letter_between, self._file.connection, self._newest, NO_END):
            self._newest = letter.number
            yield letter

    async def replay(self, letter: DeadLetter) -> bool:
        """Move a letter into the queue, in one transaction."""
        return await self._do(self._replay, letter)

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete a letter."""
        return await self._do(self._drop, letter)

    def _replay(self, letter: DeadLetter) -> bool:
        with self._file.transaction() as connection:
            self._file.check_room()
            self._room.check(connection, letter.size)
            replayed = rows.replay(connection, letter)
        if replayed:
            self._room.take(letter.size)
        return replayed

    def _drop(self, letter: DeadLetter) -> bool:
        with self._file.transaction() as connection:
            return rows.drop(connection, letter.number)

    async def _do(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Run a function in a thread. It ends in bounded time: SQLite waits for a lock at most `busy_timeout`."""
        async with self._turn:  # one thread at a time may use the connection
            with unusable_as_error(self._directory):
                return await asyncio.to_thread(function, *arguments)
