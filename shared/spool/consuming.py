"""Consuming in batches: what is handed out stays in the file until its batch is acked."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol

from shared.delivery import Delivery
from shared.errors import BrokerUnavailable
from shared.logs import get_logger
from shared.spool.rows import Entry, HandedOut
from shared.waiting import is_set_within

PAUSE = 1.0
"""Seconds before deliveries are asked for again from a spool that cannot be written."""

_log = get_logger(__name__)


class Source(Protocol):
    """What a consumer needs of its spool."""

    @property
    def available(self) -> bool:
        """Whether it can be written."""

    @property
    def waiting(self) -> int:
        """Deliveries that could be taken, now or later."""

    @property
    def ready(self) -> int:
        """Deliveries that could be taken now: none while one that comes alone waits for others to be done."""

    @property
    def redelivering(self) -> bool:
        """Whether the next of them comes alone."""

    def take(self, size: int) -> Awaitable[HandedOut]:
        """Hand out at most `size` deliveries. Raises `BrokerUnavailable`."""

    def remove(self, entries: Sequence[Entry]) -> Awaitable[None]:
        """Delete deliveries that are done. Raises `BrokerUnavailable`."""

    def give_back(self, entries: Sequence[Entry]) -> None:
        """Let deliveries be handed out again."""

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
        """Return once they are deleted on disk; they come again if the spool cannot be written."""
        entries, self._unsettled = self._unsettled, ()
        if entries:
            await self._consumer.settle(entries)

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Copy one of `deliveries` to the dead letters."""
        entry = next(entry for entry in self._entries if entry.delivery is delivery)
        await self._consumer.bury(entry, reason, detail)


class SpoolConsumer:
    """A consumer; several share the spool, and none gets what another has."""

    def __init__(self, spool: Source, prefetch: int) -> None:
        self._spool = spool
        self._prefetch = prefetch
        self._held: dict[tuple[int, int], Entry] = {}
        self._changed = asyncio.Event()
        self._left: int | None = None  # once stopped: how many it may still take

    async def batches(self, size: int, linger: float) -> AsyncIterator[SpoolBatch]:
        """Yield batches as `shared.broker.Consumer.batches` says, in the order in which they were published."""
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

    async def settle(self, entries: Sequence[Entry]) -> None:
        """Delete deliveries that this consumer has, or give them back if that cannot be done."""
        try:
            await self._spool.remove(entries)
        except BrokerUnavailable as error:
            self._spool.give_back(entries)
            _log.info("not acked, will come back", deliveries=len(entries), reason=str(error))
        finally:
            for entry in entries:
                self._held.pop(_key(entry), None)
            self._changed.set()

    async def bury(self, entry: Entry, reason: str, detail: str) -> None:
        """Copy a delivery that this consumer has to the dead letters."""
        await self._spool.bury(entry, reason, detail)

    async def stop(self) -> None:
        """Take no more than what is there now, and of that no more than the prefetch."""
        if self._left is None:
            self._left = min(self._prefetch - len(self._held), self._spool.waiting)
        self._changed.set()

    async def release(self) -> None:
        """Give back what is held; nothing has died of it, so that it does not count as another attempt."""
        self.end()
        self._spool.give_back(list(self._held.values()))
        self._held.clear()

    def wake(self) -> None:
        """Look again: something has changed."""
        self._changed.set()

    def end(self) -> None:
        """Let `batches` end."""
        self._left = 0
        self._changed.set()

    def _room(self, size: int) -> int:
        """Return how many deliveries the next batch may have now."""
        left = self._prefetch if self._left is None else self._left
        return min(size, self._prefetch - len(self._held), left, self._spool.ready)

    async def _company(self, size: int, linger: float) -> None:
        """Wait until a batch would be full, at most for `linger` seconds, and not once stopped."""
        size = min(size, self._prefetch - len(self._held))
        deadline = time.monotonic() + linger
        while self._left is None and self._spool.waiting < size and not self._spool.redelivering:
            self._changed.clear()
            if not await is_set_within(self._changed, deadline - time.monotonic()):
                return

    async def _take(self, size: int) -> Sequence[Entry]:
        """Take deliveries; none if another consumer was faster, or after a pause if the spool cannot be written."""
        room = self._room(size)
        if not room:
            return ()
        try:
            taken = (await self._spool.take(room)).entries
        except BrokerUnavailable as error:
            _log.debug("nothing was taken", reason=str(error))
            await asyncio.sleep(PAUSE if self._left is None else 0)
            if self._left is not None:
                self._left = 0
            return ()
        self._held |= {_key(entry): entry for entry in taken}
        if self._left is not None:
            self._left -= len(taken)
        return taken


def _key(entry: Entry) -> tuple[int, int]:
    return entry.generation, entry.number
