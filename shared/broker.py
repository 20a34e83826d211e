"""The broker between receiver and processor: what both may rely on, whatever carries the deliveries.

The promise of `publish` is durability: once it returns, the delivery survives a crash of any process and is handed to
a consumer at least once. Callers may **not** assume order, nor that a delivery arrives only once.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.delivery import Delivery


@dataclass(frozen=True, slots=True)
class Depths:
    """How full the broker is: deliveries ready for a consumer, the bound of the queue, and dead letters kept."""

    ready: int
    capacity: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was refused: `reason` is one of a few words, `detail` says what exactly was wrong.

    `dead_at` is when, in Unix milliseconds, or None if nothing says so. `number` tells it from others with the same ID,
    and means something only to the visit that gave it.
    """

    number: int
    delivery: Delivery
    reason: str
    detail: str
    dead_at: int | None

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.delivery.body)


class Publisher(Protocol):
    """The sending side."""

    @property
    def available(self) -> bool:
        """Whether a publish is likely to succeed now; costs nothing and never waits."""

    async def publish(self, delivery: Delivery) -> None:
        """Hand over one delivery; return once the broker has confirmed that it is durable.

        Raises `BrokerUnavailable` (within the publish deadline; the delivery may still arrive), `QueueFull` or
        `MessageTooLarge`.
        """


class Batch(Protocol):
    """Deliveries taken from the queue together; they come back unless `ack` succeeds."""

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The deliveries, in the order in which the broker gave them. Never empty."""

    async def ack(self) -> None:
        """Tell the broker that all of them are done. A lost connection is not an error: they come back instead."""

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Put a copy of one of them into the dead-letter queue, durably, before `ack` removes it from the queue.

        Raises as `Publisher.publish` does.
        """


class Consumer(Protocol):
    """The receiving side, for one worker."""

    def batches(self, size: int, linger: float) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` deliveries, none waiting longer than `linger` seconds for company.

        A delivery that the broker marks as redelivered comes alone. A process that has just started holds no other
        beside it, over all its consumers, so that one that kills every process takes no neighbour along. The iterator
        ends once `stop` was called and what had arrived by then has been yielded.
        """

    async def stop(self) -> None:
        """Take no more deliveries from the queue."""

    async def release(self) -> None:
        """Give back to the queue, within a bounded time, all that is not acked, and end: it may go to others now."""


class Broker(Publisher, Protocol):
    """Both sides, and the broker's state."""

    async def start(self) -> None:
        """Begin to connect and return at once; the broker need not be there yet."""

    async def consume(self, prefetch: int) -> Consumer:
        """Return a consumer that holds at most `prefetch` deliveries unacked; wait until the broker is there."""

    async def depths(self) -> Depths:
        """Return how full the broker is. Raises `BrokerUnavailable`."""

    async def close(self) -> None:
        """Let go of the broker, within a bounded time. What was not acked goes back to the queue."""


class DeadLetters(Protocol):
    """One visit to the dead letters, which a broker's roles may go on working beside."""

    @property
    def total(self) -> int:
        """How many there were when the visit began."""

    def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield those that were there then, the oldest first as a rule, one at a time; may be asked for once.

        What becomes a dead letter meanwhile, such as one that was replayed and failed again, is not among them. Looking
        changes nothing, however often. Raises `BrokerUnavailable`.
        """

    async def replay(self, letter: DeadLetter) -> bool:
        """Put the delivery of a letter into the queue again, durably, and then remove the letter.

        A crash in between may leave both, never neither. Returns whether the letter was still there. Raises as
        `Publisher.publish` does, and the letter stays then.
        """

    async def drop(self, letter: DeadLetter) -> bool:
        """Remove a letter for good; return whether it was still there. Raises `BrokerUnavailable`."""
