"""A spool, joined by a process beside the one that has the directory."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull
from shared.spool import rows
from shared.spool.broker import MAX_BYTES
from shared.spool.file import JoinedFile

RECOUNT_SECONDS = 1.0
"""How long a count of the deliveries is good for: to count them for each one would take long in a full spool."""


class Room:
    """How much room there is in the queue of a joined file, counted anew now and then."""

    def __init__(self, bounds: rows.Bounds) -> None:
        """`bounds` of the queue."""
        self._bounds = bounds
        self._deliveries = self._bytes = 0
        self._counted_at = float("-inf")

    def check(self, connection: sqlite3.Connection, size: int) -> None:
        """Raise `QueueFull` if there is no room for another `size` bytes."""
        if time.monotonic() - self._counted_at > RECOUNT_SECONDS:
            self._deliveries, self._bytes = rows.fill(connection)
            self._counted_at = time.monotonic()
        if self._deliveries >= self._bounds.deliveries or self._bytes + size > self._bounds.bytes:
            raise QueueFull(f"the spool holds {self._deliveries} deliveries of {self._bytes} bytes")

    def take(self, size: int) -> None:
        """Count a delivery of `size` bytes that was added."""
        self._deliveries += 1
        self._bytes += size


@asynccontextmanager
async def spool_publisher(directory: Path, size: int, max_bytes: int = MAX_BYTES) -> AsyncIterator["SpoolPublisher"]:
    """Put deliveries into the spool in a directory, whether or not a process has it.

    `size` and `max_bytes` bound the queue. Raises `SettingsError` if there is no spool, or `BrokerUnavailable` if it
    cannot be used.
    """
    with unusable_as_error(directory):
        file = await asyncio.to_thread(JoinedFile, directory)
    try:
        yield SpoolPublisher(file, directory, Room(rows.Bounds(size, max_bytes, 0)))
    finally:
        await asyncio.to_thread(file.close)


class SpoolPublisher:
    """`shared.broker.Publisher` on a joined file."""

    def __init__(self, file: JoinedFile, directory: Path, room: Room) -> None:
        """`room` in the queue of the file."""
        self._file = file
        self._directory = directory
        self._room = room

    @property
    def available(self) -> bool:
        """Whether a publish is likely to succeed now, which nothing speaks against."""
        return True

    async def publish(self, delivery: Delivery) -> None:
        """Return once the delivery is on disk. The thread ends by itself: SQLite gives up waiting for others."""
        with unusable_as_error(self._directory):
            await asyncio.to_thread(self._insert, delivery)

    def _insert(self, delivery: Delivery) -> None:
        size = len(delivery.body)
        with self._file.transaction() as connection:
            self._room.check(connection, size)
            rows.insert(connection, rows.State(), delivery)
        self._room.take(size)


@contextmanager
def unusable_as_error(directory: Path) -> Iterator[None]:
    """Turn an error of SQLite into `BrokerUnavailable`."""
    try:
        yield
    except sqlite3.Error as error:
        raise BrokerUnavailable(f"{directory}: the spool cannot be used ({error})") from error
