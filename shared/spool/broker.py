"""The spool as `shared.broker.Broker`."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.broker import Depths
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull
from shared.logs import get_logger
from shared.spool.file import SpoolFile
from shared.spool.writer import Writer
from shared.waiting import is_set_within

MAX_BYTES = 4 * 1024**3
"""Bytes of payloads that a spool takes."""

BATCH_BYTES = 64 * 1024**2
"""Bytes of payloads past which a batch takes no more deliveries."""

VACUUM_PAGES = 100_000
"""Pages that are given back to the file system at once when the spool has been drained."""

_log = get_logger(__name__)

_COLUMNS = "id, event, body, received_at, hook_id, target_type, target_id"


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    delivery: Delivery


class SpoolBroker:
    """A durable FIFO in a directory that one process has at a time."""

    def __init__(self, directory: Path, size: int, delivery_limit: int, max_bytes: int = MAX_BYTES) -> None:
        """`size` and `max_bytes` bound what it takes; `delivery_limit`: how many crashes a delivery survives."""
        self._directory = directory
        self._size = size
        self._max_bytes = max_bytes
        self._delivery_limit = delivery_limit
        self._file: SpoolFile | None = None
        self._writer: Writer | None = None
        self._cursor = 0
        self._consumers: list[SpoolConsumer] = []
        self.deliveries = 0
        """Deliveries in the spool."""
        self.bytes = 0
        """Bytes of their payloads."""
        self.waiting = 0
        """Deliveries in the spool that no consumer has."""
        self.returned = 0
        """How many of those were handed out before, by a process that did not finish them; they come first."""
        self._dead_letters = 0

    async def start(self) -> None:
        """Open the spool. Raises `SettingsError` if it cannot be had."""
        file = self._file = await asyncio.to_thread(SpoolFile, self._directory)
        self._writer = Writer(file.connection)
        totals = await self._writer.do(_totals)
        self.deliveries, self.bytes, self.returned, self._dead_letters = totals
        self.waiting = self.deliveries

    @property
    def available(self) -> bool:
        """Whether the spool is open."""
        return self._writer is not None

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than publishes, when those are concurrent."""
        return self._open().commits

    async def publish(self, delivery: Delivery) -> None:
        """Return once the delivery is on disk."""
        size = len(delivery.body)
        if self.deliveries >= self._size or self.bytes + size > self._max_bytes:
            raise QueueFull(f"the spool holds {self.deliveries} deliveries of {self.bytes} bytes")
        self.deliveries += 1
        self.bytes += size
        try:
            await self._open().do(lambda connection: _insert(connection, delivery))
        except BrokerUnavailable:
            self.deliveries -= 1
            self.bytes -= size
            raise
        self.waiting += 1
        for consumer in self._consumers:
            consumer.wake()

    async def consume(self, prefetch: int) -> "SpoolConsumer":
        """Return a consumer."""
        consumer = SpoolConsumer(self, prefetch)
        self._consumers.append(consumer)
        return consumer

    async def depths(self) -> Depths:
        """Return how full the spool is."""
        return Depths(self.deliveries, self._size, self._dead_letters)

    async def close(self) -> None:
        """Finish what was asked for and let another process have the directory."""
        for consumer in self._consumers:
            consumer.end()
        if self._writer is not None and self._file is not None:
            await self._writer.close()
            self._writer = None
            await asyncio.to_thread(self._file.close)

    async def take(self, size: int) -> Sequence["_Entry"]:
        """Hand out the next deliveries, at most `size`; one that was handed out before comes alone."""
        while True:
            entries, given_up = await self._open().do(lambda connection: self._hand_out(connection, size))
            self._forget(given_up)
            self._dead_letters += len(given_up)
            self.waiting -= len(entries) + len(given_up)
            self.returned = max(0, self.returned - len(entries) - len(given_up))
            if entries or not given_up:
                return entries

    async def remove(self, entries: Sequence["_Entry"]) -> None:
        """Delete deliveries that are done."""
        numbers = [(entry.number,) for entry in entries]
        await self._open().do(
            lambda connection: connection.executemany("DELETE FROM deliveries WHERE number = ?", numbers)
        )
        self._forget(entries)
        if not self.deliveries:
            await self._open().vacuum(VACUUM_PAGES)

    async def bury(self, entry: "_Entry", reason: str, detail: str) -> None:
        """Copy a delivery to the dead letters."""
        if self._dead_letters >= self._size:
            raise QueueFull(f"there are {self._dead_letters} dead letters")
        if await self._open().do(lambda connection: _bury(connection, entry.number, reason, detail)):
            self._dead_letters += 1

    def _open(self) -> Writer:
        if self._writer is None:
            raise BrokerUnavailable("the spool is not open")
        return self._writer

    def _forget(self, entries: Sequence["_Entry"]) -> None:
        self.deliveries -= len(entries)
        self.bytes -= sum(len(entry.delivery.body) for entry in entries)

    def _hand_out(self, connection: sqlite3.Connection, size: int) -> tuple[list[_Entry], list[_Entry]]:
        """Return entries to hand out, marked as such, and those that were handed out too often."""
        rows = connection.execute(
            f"SELECT number, attempts, {_COLUMNS} FROM deliveries WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
            (self._cursor, size),
        )
        entries: list[_Entry] = []
        given_up: list[_Entry] = []
        held = 0
        for number, attempts, *fields in rows:
            entry = _Entry(number, Delivery(*fields))
            if attempts and entries:
                break
            self._cursor = number
            if attempts > self._delivery_limit:
                _bury(connection, number, "delivery_limit", f"handed out {attempts} times and never done")
                connection.execute("DELETE FROM deliveries WHERE number = ?", (number,))
                given_up.append(entry)
                continue
            entries.append(entry)
            held += len(entry.delivery.body)
            if attempts or held > BATCH_BYTES:
                break
        connection.executemany(
            "UPDATE deliveries SET attempts = attempts + 1 WHERE number = ?", [(entry.number,) for entry in entries]
        )
        return entries, given_up


class SpoolBatch:
    """Deliveries taken together."""

    def __init__(self, spool: SpoolBroker, entries: Sequence[_Entry]) -> None:
        self._spool = spool
        self._entries = entries
        self.deliveries: Sequence[Delivery] = [entry.delivery for entry in entries]

    async def ack(self) -> None:
        """Delete them; they come again if the spool cannot be written."""
        try:
            await self._spool.remove(self._entries)
        except BrokerUnavailable as error:
            _log.info("not acked, will come back", deliveries=len(self._entries), reason=str(error))

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Copy one of them to the dead letters."""
        entry = next(entry for entry in self._entries if entry.delivery is delivery)
        await self._spool.bury(entry, reason, detail)


class SpoolConsumer:
    """A consumer; several share the spool, and none gets what another has."""

    def __init__(self, spool: SpoolBroker, prefetch: int) -> None:
        self._spool = spool
        self._prefetch = prefetch
        self._changed = asyncio.Event()
        self._left: int | None = None  # once stopped: how many it may still take

    async def batches(self, size: int, linger: float) -> AsyncIterator[SpoolBatch]:
        """Yield batches as `shared.broker.Consumer.batches` says."""
        size = min(size, self._prefetch)
        while self._left != 0:
            if not self._spool.waiting:
                if self._left is not None:
                    return
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._company(size, linger)
            entries = await self._spool.take(size if self._left is None else min(size, self._left))
            if self._left is not None:
                self._left -= len(entries)
            if entries:
                yield SpoolBatch(self._spool, entries)

    async def stop(self) -> None:
        """Take no more than what is there now, and of that no more than the prefetch."""
        self._left = min(self._prefetch, self._spool.waiting)
        self._changed.set()

    def wake(self) -> None:
        """Look again: something has arrived."""
        self._changed.set()

    def end(self) -> None:
        """Let `batches` end."""
        self._left = 0
        self._changed.set()

    async def _company(self, size: int, linger: float) -> None:
        """Wait until a batch would be full, at most for `linger` seconds, and not once stopped."""
        deadline = time.monotonic() + linger
        while self._left is None and self._spool.waiting < size and not self._spool.returned:
            self._changed.clear()
            if not await is_set_within(self._changed, deadline - time.monotonic()):
                return


def _totals(connection: sqlite3.Connection) -> tuple[int, int, int, int]:
    totals = "SELECT count(*), coalesce(sum(length(body)), 0), count(nullif(attempts, 0)) FROM deliveries"
    count, size, returned = connection.execute(totals).fetchone()
    (dead,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    return count, size, returned, dead


def _insert(connection: sqlite3.Connection, one: Delivery) -> None:
    connection.execute(
        f"INSERT INTO deliveries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
        (one.id, one.event, one.body, one.received_at, one.hook_id, one.target_type, one.target_id),
    )


def _bury(connection: sqlite3.Connection, number: int, reason: str, detail: str) -> bool:
    """Copy a delivery to the dead letters, unless it is there; return whether it was not."""
    copied = connection.execute(
        f"INSERT OR IGNORE INTO dead_letters (number, {_COLUMNS}, reason, detail, dead_at) "  # noqa: S608
        f"SELECT number, {_COLUMNS}, ?, ?, ? FROM deliveries WHERE number = ?",
        (reason, detail[:1000], time.time_ns() // 1_000_000, number),
    )
    return copied.rowcount > 0
