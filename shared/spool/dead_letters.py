"""The dead letters of a spool, for a process beside the one that has the directory: `shared.broker.DeadLetters`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from shared.broker import DeadLetter
from shared.spool import rows
from shared.spool.broker import MAX_BYTES
from shared.spool.file import JoinedFile
from shared.spool.joined import Room, unusable_as_error

_Result = TypeVar("_Result")


@asynccontextmanager
async def spool_dead_letters(
    directory: Path, size: int, max_bytes: int = MAX_BYTES
) -> AsyncIterator["SpoolDeadLetters"]:
    """Visit the dead letters of the spool in a directory, whether or not a process has it.

    `size` and `max_bytes` bound the queue into which letters are replayed. Raises `SettingsError` if there is no spool,
    or `BrokerUnavailable` if it cannot be used.
    """
    with unusable_as_error(directory):
        file = await asyncio.to_thread(JoinedFile, directory)
    try:
        with unusable_as_error(directory):
            total, newest = await asyncio.to_thread(rows.letters, file.connection)
        yield SpoolDeadLetters(file, directory, Room(rows.Bounds(size, max_bytes, 0)), total, newest)
    finally:
        await asyncio.to_thread(file.close)


class SpoolDeadLetters:
    """One visit. Each thing that is done is a transaction of its own, so that the other process never waits long."""

    def __init__(self, file: JoinedFile, directory: Path, room: Room, total: int, newest: int) -> None:
        """`total` letters were there when the visit began, the latest of them with the number `newest`."""
        self._file = file
        self._directory = directory
        self._room = room
        self._total = total
        self._newest = newest

    @property
    def total(self) -> int:
        """How many there were when the visit began."""
        return self._total

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield them in the order in which they died."""
        after = 0
        while letter := await self._do(rows.letter_between, self._file.connection, after, self._newest):
            yield letter
            after = letter.number

    async def replay(self, letter: DeadLetter) -> bool:
        """Move a letter into the queue in one transaction, so that a crash leaves it in one of the two places."""
        return await self._do(self._replay, letter)

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete a letter."""
        return await self._do(self._drop, letter)

    def _replay(self, letter: DeadLetter) -> bool:
        with self._file.transaction() as connection:
            self._room.check(connection, letter.size)
            replayed = rows.replay(connection, letter.number)
        if replayed:
            self._room.take(letter.size)
        return replayed

    def _drop(self, letter: DeadLetter) -> bool:
        with self._file.transaction() as connection:
            return rows.drop(connection, letter.number)

    async def _do(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Do something in a thread; it ends by itself, as SQLite gives up waiting for another process."""
        with unusable_as_error(self._directory):
            return await asyncio.to_thread(function, *arguments)
