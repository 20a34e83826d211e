"""Publishing into a spool from a process that does not own its directory, such as `promgithub redeliver`."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from shared.brokers.spool import rows
from shared.brokers.spool.unlocked_file import UnlockedFile
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull

RECOUNT_SECONDS = 1.0
"""How long a count of the deliveries is reused, in seconds: counting a full spool takes too long for each publish."""


class Room:
    """The free space in the queue of an unlocked file, as of the last count."""

    def __init__(self, bounds: rows.Bounds) -> None:
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
        """Register that a delivery of `size` bytes was added."""
        self._deliveries += 1
        self._bytes += size


@asynccontextmanager
async def spool_publisher(directory: Path, size: int, max_bytes: int) -> AsyncIterator["SpoolPublisher"]:
    """Publish to the spool in a directory. Another process may use the spool at the same time.

    `size` and `max_bytes` limit the queue. Raises `SettingsError` if there is no spool, or `BrokerUnavailable` if it
    cannot be used.
    """
    with unusable_as_error(directory):
        file = await asyncio.to_thread(UnlockedFile, directory)
    try:
        yield SpoolPublisher(file, directory, Room(rows.Bounds(size, max_bytes, 0)))
    finally:
        await asyncio.to_thread(file.close)


class SpoolPublisher:
    """`shared.brokers.interface.Publisher` on an unlocked file."""

    def __init__(self, file: UnlockedFile, directory: Path, room: Room) -> None:
        self._file = file
        self._directory = directory
        self._room = room

    @property
    def available(self) -> bool:
        """Always True: a file has no connection that could be lost."""
        return True

    async def ready_within(self, seconds: float) -> bool:
        """Return True at once."""
        return True

    async def publish(self, delivery: Delivery) -> None:
        """Return once the delivery is on disk. This takes `busy_timeout` at most."""
        with unusable_as_error(self._directory):
            await asyncio.to_thread(self._insert, delivery)

    def _insert(self, delivery: Delivery) -> None:
        size = len(delivery.body)
        with self._file.transaction() as connection:
            self._file.check_room()
            self._room.check(connection, size)
            rows.insert(connection, rows.State(), [delivery])
        self._room.take(size)


@contextmanager
def unusable_as_error(directory: Path) -> Iterator[None]:
    """Turn an error of SQLite into `BrokerUnavailable`."""
    try:
        yield
    except sqlite3.Error as error:
        raise BrokerUnavailable(f"{directory}: the spool cannot be used ({error})") from error
