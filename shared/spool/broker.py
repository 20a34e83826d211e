"""The spool as `shared.broker.Broker`."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import WeakSet

from shared.broker import Depths
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull
from shared.github import event_label
from shared.logs import get_logger
from shared.spool import rows
from shared.spool.consuming import SpoolConsumer
from shared.spool.rows import Bounds, Entry, HandedOut
from shared.spool.writer import Writer

MAX_BYTES = 4 * 1024**3
"""Bytes of payloads that a spool takes."""

USUAL_BYTES = 32 * 1024
"""Bytes that nearly every payload about CI stays below."""

_log = get_logger(__name__)


class SpoolBroker:
    """A durable FIFO in a directory that one process has at a time."""

    def __init__(self, directory: Path, size: int, delivery_limit: int, max_bytes: int = MAX_BYTES) -> None:
        """`size` (deliveries) and `max_bytes` (of their payloads) bound the queue, and again the dead letters.

        `delivery_limit`: how often a delivery is redelivered after crashes before it becomes a dead letter.
        """
        self._directory = directory
        self._bounds = Bounds(size, max_bytes, delivery_limit)
        self._writer = Writer(self._wake)
        self._consumers: WeakSet[SpoolConsumer] = WeakSet()
        self._given_back: list[Entry] = []
        self._head: Delivery | None = None
        self._arriving = 0
        self._arriving_bytes = 0

    async def start(self) -> None:
        """Open the spool, which reads all that is in it. Raises `SettingsError` if the directory cannot be had."""
        await self._writer.open(self._directory)

    @property
    def available(self) -> bool:
        """Whether the spool is open and could be written when that was last tried, about a second ago at most."""
        return self._writer.works

    @property
    def deliveries(self) -> int:
        """Deliveries in the spool, including those that consumers have."""
        return self._writer.state.deliveries

    @property
    def bytes(self) -> int:
        """Bytes of their payloads."""
        return self._writer.state.bytes

    @property
    def dead_letters(self) -> int:
        """Dead letters in the spool."""
        return self._writer.state.dead_letters

    @property
    def capacity(self) -> tuple[int, int]:
        """How many deliveries, of how many bytes, the spool takes."""
        return self._bounds.deliveries, self._bounds.bytes

    @property
    def has_room(self) -> bool:
        """Whether a delivery of a usual size would be taken now."""
        return self.available and not self._is_full(USUAL_BYTES)

    @property
    def head_age(self) -> float:
        """Seconds since the delivery was received that was handed out last, or 0 if the spool is empty."""
        return max(0.0, time.time() - self._head.received_at / 1000) if self._head and self.deliveries else 0.0

    @property
    def commits(self) -> int:
        """Transactions so far: fewer than publishes, when those are concurrent."""
        return self._writer.commits

    @property
    def waiting(self) -> int:
        """Deliveries that no consumer has."""
        return self._writer.state.waiting + len(self._given_back)

    @property
    def ready(self) -> int:
        """Deliveries that a consumer gets if it asks now: none while one that comes alone waits for others."""
        state = self._writer.state
        others = state.held - len(self._given_back)
        return 0 if state.unfinished and others else self.waiting

    @property
    def redelivering(self) -> bool:
        """Whether the next delivery has been handed out before, so that it comes alone."""
        state = self._writer.state
        return bool(self._given_back or state.returned or state.unfinished)

    async def publish(self, delivery: Delivery) -> None:
        """Return once the delivery is on disk; raises as `shared.broker.Publisher.publish` does."""
        size = len(delivery.body)
        if self._is_full(size):
            raise QueueFull(f"the spool holds {self.deliveries} deliveries of {self.bytes} bytes")
        written = self._writer.submit(partial(rows.insert, delivery=delivery))
        self._arriving += 1
        self._arriving_bytes += size
        try:
            await written
        finally:
            self._arriving -= 1
            self._arriving_bytes -= size

    async def consume(self, prefetch: int) -> SpoolConsumer:
        """Return a consumer that holds at most `prefetch` deliveries. Raises `BrokerUnavailable` if not open."""
        if not self._writer.is_open:
            raise BrokerUnavailable("the spool is not open")
        consumer = SpoolConsumer(self, prefetch)
        self._consumers.add(consumer)
        return consumer

    async def depths(self) -> Depths:
        """Return how full the spool is; costs nothing. Raises `BrokerUnavailable` if not open."""
        if not self._writer.is_open:
            raise BrokerUnavailable("the spool is not open")
        return Depths(self.waiting, self._bounds.deliveries, self._writer.state.dead_letters)

    async def close(self) -> None:
        """Finish what was asked for, within a bounded time, and let another process have the directory."""
        for consumer in self._consumers:
            consumer.end()
        self._consumers.clear()
        await self._writer.close()

    async def take(self, size: int) -> HandedOut:
        """Hand out the next deliveries, at most `size`; one that was handed out before comes alone."""
        given_back, self._given_back = self._given_back, []
        handing = asyncio.ensure_future(self._hand_out(given_back, size))
        try:
            handed = await asyncio.shield(handing)
        except asyncio.CancelledError:
            handing.add_done_callback(self._take_back)
            raise
        return handed

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Return once deliveries that are done are deleted on disk."""
        await asyncio.shield(self._writer.submit(partial(rows.delete, entries=entries)))
        self._writer.tidy()

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Let deliveries be handed out again; those of a file that has been set aside cannot."""
        generation = self._writer.state.generation
        self._given_back += [entry for entry in entries if entry.generation == generation]
        self._wake()

    async def bury(self, entry: Entry, reason: str, detail: str) -> None:
        """Copy a delivery to the dead letters."""
        burying = partial(rows.bury, entry=entry, bounds=self._bounds, reason=reason, detail=detail)
        if not await asyncio.shield(self._writer.submit(burying)):
            raise QueueFull(f"there are {self._writer.state.dead_letters} dead letters")

    def _is_full(self, size: int) -> bool:
        """Tell whether there is no room for another `size` bytes beside what is on its way to disk."""
        deliveries, taken = self.deliveries + self._arriving, self.bytes + self._arriving_bytes
        return deliveries >= self._bounds.deliveries or taken + size > self._bounds.bytes

    async def _hand_out(self, given_back: Sequence[Entry], size: int) -> HandedOut:
        """Hand out deliveries, among which are from now on those that were given back."""
        try:
            handed = await self._writer.submit(
                partial(rows.hand_out, given_back=given_back, size=size, bounds=self._bounds), patient=True
            )
        except BrokerUnavailable:
            self.give_back(given_back)
            raise
        if handed.entries:
            self._head = handed.entries[0].delivery
        for entry in handed.buried:
            _log.error("put among the dead letters: processes died of it", **_named(entry))
        for entry in handed.unburied:
            _log.error("not handed out any more: processes died of it, and the dead letters are full", **_named(entry))
        return handed

    def _take_back(self, handing: "asyncio.Future[HandedOut]") -> None:
        """Give back what was handed out to somebody who did not wait for it."""
        if not handing.cancelled() and handing.exception() is None:
            self.give_back(handing.result().entries)

    def _wake(self) -> None:
        for consumer in self._consumers:
            consumer.wake()


def _named(entry: Entry) -> dict[str, object]:
    delivery = entry.delivery
    return {"delivery_id": delivery.id, "event_type": event_label(delivery.event), "attempts": entry.attempts}
