"""The spool as `shared.brokers.interface.Broker`."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakSet

from shared.brokers.interface import MAX_HELD_BYTES, NOTHING_HELD, Depths, Held
from shared.brokers.spool import rows
from shared.brokers.spool.requests import Kind
from shared.brokers.spool.rows import Bounds, Entry, HandedOut
from shared.brokers.spool.spool_consumer import SpoolConsumer
from shared.brokers.spool.transactions import Insert
from shared.brokers.spool.writer import Writer
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull
from shared.github import event_label
from shared.logs import get_logger

USUAL_BYTES = 32 * 1024
"""Nearly every payload about CI is smaller than this, in bytes."""

_log = get_logger(__name__)


class SpoolBroker:
    """A durable FIFO in a directory. One process at a time owns the directory."""

    def __init__(
        self,
        directory: Path,
        size: int,
        delivery_limit: int,
        max_bytes: int,
        *,
        companion: Path | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """`size` (deliveries) and `max_bytes` (of payloads) limit the queue; the dead letters have the same limits.

        `delivery_limit` is how often a delivery is redelivered after crashes before it becomes a dead letter. Once the
        file `companion` exists, such as the store of a standalone promgithub, deliveries are accepted only while it
        stays the same file. `max_held_bytes` is the maximum of the payloads that the consumers hold together.
        """
        self._directory = directory
        self._companion = companion
        self._bounds = Bounds(size, max_bytes, delivery_limit)
        self._writer = Writer(self._wake)
        self._consumers: WeakSet[SpoolConsumer] = WeakSet()
        self._given_back: list[Entry] = []
        self._head: Delivery | None = None
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._handing_out = asyncio.Lock()
        self._arriving = 0
        self._arriving_bytes = 0

    async def start(self) -> None:
        """Open the spool; this reads the whole file. Raises `SettingsError` if the directory cannot be used."""
        await self._writer.open(self._directory, self._companion)

    @property
    def available(self) -> bool:
        """Whether the spool accepts deliveries: it can be written, the disk has room, and all files are there.

        It checks this about once a second while idle.
        """
        return self._writer.accepts

    @property
    def trouble(self) -> str:
        """Why the spool is not available."""
        return f"the spool accepts no deliveries: {self._writer.trouble}"

    @property
    def held(self) -> Held:
        """What the consumers hold."""
        return sum((consumer.held for consumer in self._consumers), NOTHING_HELD)

    @property
    def returns(self) -> int:
        """Always 0: consumers take no more deliveries than they may hold."""
        return 0

    async def ready_within(self, seconds: float) -> bool:
        """Wait at most `seconds` until the spool is available; return whether it is."""
        return await self._writer.accepts_within(seconds)

    @property
    def deliveries(self) -> int:
        """Number of deliveries in the spool, including those that consumers hold."""
        return self._writer.state.deliveries

    @property
    def bytes(self) -> int:
        """Bytes of the payloads of the deliveries."""
        return self._writer.state.bytes

    @property
    def dead_letters(self) -> int:
        """Number of dead letters in the spool."""
        return self._writer.state.dead_letters

    @property
    def capacity(self) -> tuple[int, int]:
        """Maximum number of deliveries, and maximum bytes of their payloads."""
        return self._bounds.deliveries, self._bounds.bytes

    @property
    def has_room(self) -> bool:
        """Whether the spool would accept a delivery of usual size now."""
        return self.available and not self._is_full(USUAL_BYTES)

    @property
    def head_age(self) -> float:
        """Age of the delivery that was handed out last, in seconds since it was received; 0 if the spool is empty."""
        return max(0.0, time.time() - self._head.received_at / 1000) if self._head and self.deliveries else 0.0

    @property
    def commits(self) -> int:
        """Number of transactions. Concurrent publishes share a transaction."""
        return self._writer.commits

    @property
    def waiting(self) -> int:
        """Number of deliveries that no consumer holds."""
        return self._writer.state.waiting + len(self._given_back)

    @property
    def ready(self) -> int:
        """Number of deliveries that a consumer can take now.

        It is 0 while the consumers hold as many bytes as they may, and while the next delivery must be handed out alone
        and consumers still hold others.
        """
        if self._held_bytes >= self._max_held_bytes:
            return 0
        state = self._writer.state
        others = state.held - len(self._given_back)
        return 0 if state.unfinished and others else self.waiting

    @property
    def redelivering(self) -> bool:
        """Whether the next delivery has been handed out before. It is then handed out alone."""
        state = self._writer.state
        return bool(self._given_back or state.returned or state.unfinished)

    async def publish(self, delivery: Delivery) -> None:
        """Return once the delivery is on disk. Raises the same errors as `interface.Publisher.publish`."""
        await self.store(delivery)

    def store(self, delivery: Delivery) -> "asyncio.Future[None]":
        """Begin to publish; return a future that is done once the delivery is on disk.

        It raises `BrokerUnavailable` if it cannot be written. Raises `QueueFull` or `BrokerUnavailable` at once.
        """
        size = len(delivery.body)
        if self._is_full(size):
            raise QueueFull(f"the spool holds {self.deliveries} deliveries of {self.bytes} bytes")
        written = self._writer.submit(Insert(delivery), Kind.ADD, size)
        self._arriving += 1
        self._arriving_bytes += size
        written.add_done_callback(partial(self._arrived, size))
        return written

    async def consume(self, prefetch: int) -> SpoolConsumer:
        """Return a consumer that holds at most `prefetch` deliveries. Raises `BrokerUnavailable` if not open."""
        if not self._writer.is_open:
            raise BrokerUnavailable("the spool is not open")
        consumer = SpoolConsumer(self, prefetch)
        self._consumers.add(consumer)
        return consumer

    async def depths(self) -> Depths:
        """Return how full the spool is, without reading the file. Raises `BrokerUnavailable` if not open."""
        if not self._writer.is_open:
            raise BrokerUnavailable("the spool is not open")
        return Depths(self.waiting, self._bounds.deliveries, self._writer.state.dead_letters)

    async def close(self) -> None:
        """Finish the pending operations, within a bounded time, and unlock the directory."""
        for consumer in self._consumers:
            consumer.end()
        self._consumers.clear()
        await self._writer.close()

    async def take(self, size: int) -> HandedOut:
        """Hand out the next deliveries, at most `size`. One that was handed out before is handed out alone."""
        given_back, self._given_back = self._given_back, []
        handing = asyncio.ensure_future(self._hand_out(given_back, size))
        try:
            handed = await asyncio.shield(handing)
        except asyncio.CancelledError:
            handing.add_done_callback(self._take_back)
            raise
        return handed

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Delete acked deliveries; return once the deletion is on disk."""
        await asyncio.shield(self._writer.submit(partial(rows.delete, entries=entries)))
        self._let_go(entries)
        self._writer.tidy()

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Return deliveries to the queue, except those of a file that was set aside."""
        self._take_in(entries)
        self._let_go(entries)

    async def bury(self, entry: Entry, reason: str, detail: str) -> None:
        """Copy a delivery to the dead letters."""
        burying = partial(rows.bury, entry=entry, bounds=self._bounds, reason=reason, detail=detail)
        if not await asyncio.shield(self._writer.submit(burying)):
            raise QueueFull(f"there are {self._writer.state.dead_letters} dead letters")

    def _arrived(self, size: int, _written: "asyncio.Future[None]") -> None:
        self._arriving -= 1
        self._arriving_bytes -= size

    def _is_full(self, size: int) -> bool:
        """Return whether there is no room for another `size` bytes. Counts the pending writes as well."""
        deliveries, taken = self.deliveries + self._arriving, self.bytes + self._arriving_bytes
        return deliveries >= self._bounds.deliveries or taken + size > self._bounds.bytes

    async def _hand_out(self, given_back: Sequence[Entry], size: int) -> HandedOut:
        """Hand out deliveries; those that were given back come first."""
        async with self._handing_out:
            room = self._max_held_bytes - self._held_bytes
            if room <= 0:
                self._take_in(given_back)
                return HandedOut(())
            handing = partial(rows.hand_out, given_back=given_back, size=size, room=room, bounds=self._bounds)
            try:
                handed = await self._writer.submit(handing, Kind.HAND_OUT, patient=True)
            except BrokerUnavailable:
                self._take_in(given_back)
                self._wake()
                raise
            self._held_bytes += _size(handed.entries)
        if handed.entries:
            self._head = handed.entries[0].delivery
        for entry, reason in handed.buried:
            _log.error("dead-lettered in the spool", reason=reason, **_named(entry))
        for entry, reason in handed.unburied:
            _log.error("not handed out again; the dead letters are full", reason=reason, **_named(entry))
        return handed

    def _take_in(self, entries: Sequence[Entry]) -> None:
        """Keep deliveries to hand them out again, except those of a file that was set aside."""
        generation = self._writer.state.generation
        self._given_back += [entry for entry in entries if entry.generation == generation]

    def _let_go(self, entries: Sequence[Entry]) -> None:
        """Count deliveries as no longer held by a consumer."""
        self._held_bytes -= _size(entries)
        self._wake()

    def _take_back(self, handing: "asyncio.Future[HandedOut]") -> None:
        """Give back the deliveries of a `take` that was cancelled."""
        if not handing.cancelled() and handing.exception() is None:
            self.give_back(handing.result().entries)

    def _wake(self) -> None:
        for consumer in self._consumers:
            consumer.wake()


def _size(entries: Sequence[Entry]) -> int:
    return sum(len(entry.delivery.body) for entry in entries)


def _named(entry: Entry) -> dict[str, object]:
    delivery = entry.delivery
    return {"delivery_id": delivery.id, "event_type": event_label(delivery.event), "attempts": entry.attempts}
