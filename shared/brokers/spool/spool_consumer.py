"""Consuming in batches: a delivery stays in the file until its batch is acked."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from shared.brokers.interface import Held
from shared.brokers.spool.rows import Entry, HandedOut
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

FIRST_PAUSE = 0.1
"""Maximum pause before the first retry of a deletion, in seconds."""

PAUSE = 1.0
"""Pause before the next attempt to take deliveries, after the spool could not be written, in seconds. Also the maximum
pause between retries of a deletion."""

_log = get_logger(__name__)


class Source(Protocol):
    """The operations of a spool that a consumer uses."""

    @property
    def available(self) -> bool:
        """Whether the spool can be written."""

    @property
    def waiting(self) -> int:
        """Number of deliveries that no consumer holds."""

    @property
    def ready(self) -> int:
        """Number of deliveries that a consumer can take now; see `SpoolBroker.ready`."""

    @property
    def redelivering(self) -> bool:
        """Whether the next delivery is handed out alone."""

    def take(self, size: int) -> Awaitable[HandedOut]:
        """Hand out at most `size` deliveries. Raises `BrokerUnavailable`."""

    def remove(self, entries: Sequence[Entry]) -> Awaitable[None]:
        """Delete acked deliveries. Raises `BrokerUnavailable`."""

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Return deliveries to the queue."""

    def bury(self, entry: Entry, reason: str, detail: str) -> Awaitable[None]:
        """Copy a delivery to the dead letters. Raises `QueueFull` or `BrokerUnavailable`."""


class SpoolBatch:
    """Deliveries taken together."""

    def __init__(self, consumer: "SpoolConsumer", entries: Sequence[Entry]) -> None:
        self._consumer = consumer
        self._entries = entries
        self._unsettled = entries
        self._deliveries = [entry.delivery for entry in entries]

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The deliveries, in the order in which they were published."""
        return self._deliveries

    async def ack(self) -> None:
        """Delete them; return once that is on disk.

        If the spool cannot be written, the deletion is retried until `Consumer.stop`. After that they are redelivered
        by the next process.
        """
        entries, self._unsettled = self._unsettled, ()
        if entries:
            await self._consumer.settle(entries)

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Copy one of `deliveries` to the dead letters."""
        entry = next(entry for entry in self._entries if entry.delivery is delivery)
        await self._consumer.bury(entry, reason, detail)


class SpoolConsumer:
    """A consumer. Several consumers share the spool; each delivery goes to one of them."""

    def __init__(self, spool: Source, prefetch: int) -> None:
        self._spool = spool
        self._prefetch = prefetch
        self._held: dict[tuple[int, int], Entry] = {}
        self._changed = asyncio.Event()
        self._left: int | None = None  # after `stop`: how many it may still take
        self._stopped = asyncio.Event()

    async def batches(self, size: int, linger: float) -> AsyncIterator[SpoolBatch]:
        """Yield batches as `interface.Consumer.batches` says, in the order in which they were published."""
        while True:
            if self._left is not None and not self._room(size):
                return
            if not self._room(size):
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._company(size, linger)
            if entries := await self._take(size):
                yield SpoolBatch(self, entries)

    @property
    def held(self) -> Held:
        """What the consumer holds."""
        times = [entry.delivery.received_at for entry in self._held.values()]
        return Held(len(times), min(times, default=None))

    async def settle(self, entries: Sequence[Entry]) -> None:
        """Delete deliveries that this consumer holds. Until that succeeds, they are not handed out again."""
        waits = pauses(FIRST_PAUSE, PAUSE)
        try:
            while not await self._removed(entries) and not self._stopped.is_set():
                await is_set_within(self._stopped, next(waits))
        finally:
            for entry in entries:
                self._held.pop(_key(entry), None)
            self._changed.set()

    async def _removed(self, entries: Sequence[Entry]) -> bool:
        try:
            await self._spool.remove(entries)
        except BrokerUnavailable as error:
            _log.warning("acked deliveries could not be deleted", deliveries=len(entries), reason=str(error))
            return False
        return True

    async def bury(self, entry: Entry, reason: str, detail: str) -> None:
        """Copy a delivery that this consumer holds to the dead letters."""
        await self._spool.bury(entry, reason, detail)

    async def stop(self) -> None:
        """Take only deliveries that wait now, up to the prefetch, and then end."""
        if self._left is None:
            self._left = min(self._prefetch - len(self._held), self._spool.waiting)
        self._stopped.set()
        self._changed.set()

    async def release(self) -> None:
        """Give back the held deliveries. No process has crashed, so this does not count as an attempt."""
        self.end()
        self._spool.give_back(list(self._held.values()))
        self._held.clear()

    def wake(self) -> None:
        """Check again whether there are deliveries to take."""
        self._changed.set()

    def end(self) -> None:
        """End `batches`."""
        self._left = 0
        self._stopped.set()
        self._changed.set()

    def _room(self, size: int) -> int:
        """Return the maximum size of the next batch."""
        left = self._prefetch if self._left is None else self._left
        return min(size, self._prefetch - len(self._held), left, self._spool.ready)

    async def _company(self, size: int, linger: float) -> None:
        """Wait at most `linger` seconds until a full batch is available. Does not wait after `stop`."""
        size = min(size, self._prefetch - len(self._held))
        deadline = time.monotonic() + linger
        while self._left is None and self._spool.waiting < size and not self._spool.redelivering:
            self._changed.clear()
            if not await is_set_within(self._changed, deadline - time.monotonic()):
                return

    async def _take(self, size: int) -> Sequence[Entry]:
        """Take deliveries. Returns none if another consumer was faster or, after a pause, if the write failed."""
        room = self._room(size)
        if not room:
            return ()
        try:
            taken = (await self._spool.take(room)).entries
        except BrokerUnavailable as error:
            _log.debug("the spool cannot be written, no deliveries taken", reason=str(error))
            await asyncio.sleep(PAUSE if self._left is None else 0)
            if self._left is not None:
                self.end()
            return ()
        self._held |= {_key(entry): entry for entry in taken}
        if self._left is not None:
            self._left -= len(taken)
        return taken


def _key(entry: Entry) -> tuple[int, int]:
    return entry.generation, entry.number
