"""The interface of the broker between receiver and processor. Every adapter keeps these promises.

`publish` promises durability: once it returns, the delivery survives a crash of any process and reaches a consumer at
least once. Callers must **not** assume an order, nor that a delivery arrives only once.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.delivery import Delivery

NO_DELIVERY_LIMIT = 1_000_000_000
"""A delivery limit that is never reached. RabbitMQ 3.10 refuses -1, which means "no limit" in later versions."""

MAX_HELD_BYTES = 128 * 1024**2
"""Default maximum of the payloads that the consumers of a process hold, in bytes."""

DETAIL_LENGTH = 1000
"""Maximum number of characters in a dead letter's detail."""


@dataclass(frozen=True, slots=True)
class Depths:
    """How full the broker is: deliveries ready for a consumer, the maximum of the queue, and dead letters."""

    ready: int
    capacity: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Held:
    """Deliveries that consumers of this process hold: taken from the queue, and not acked yet.

    `oldest` is when the oldest of them was received, in Unix milliseconds, or None if there is none.
    """

    deliveries: int
    oldest: int | None

    def __add__(self, other: "Held") -> "Held":
        """Return both together."""
        times = [time for time in (self.oldest, other.oldest) if time is not None]
        return Held(self.deliveries + other.deliveries, min(times, default=None))


NOTHING_HELD = Held(0, None)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead-lettered delivery: `reason` is one of a few words, `detail` describes the problem.

    `dead_at` is the time of dead-lettering in Unix milliseconds, or None if it is unknown. `number` distinguishes
    letters with the same ID; it is valid only within one visit.
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
    """The publishing side."""

    @property
    def available(self) -> bool:
        """Whether a publish is likely to succeed now. Never waits."""

    async def ready_within(self, seconds: float) -> bool:
        """Wait at most `seconds` until the publisher is `available`; return whether it is."""

    async def publish(self, delivery: Delivery) -> None:
        """Publish one delivery; return once the broker has confirmed that it is durable.

        Raises `BrokerUnavailable` (within the publish deadline; the delivery may still arrive), `QueueFull` or
        `MessageTooLarge`.
        """


class PublishingBroker(Publisher, Protocol):
    """The publishing side as the broker of a receiver."""

    async def start(self) -> None:
        """Start to connect and return at once, even if the broker is not reachable yet."""

    @property
    def trouble(self) -> str:
        """Why the broker is not `available`, for operators: it may name addresses and users, but no password."""

    async def close(self) -> None:
        """Disconnect, within a bounded time. Unacked deliveries go back to the queue."""


class Batch(Protocol):
    """Deliveries taken from the queue together; they are redelivered unless `ack` succeeds."""

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The deliveries, in the order in which the broker gave them. Never empty."""

    async def ack(self) -> None:
        """Acknowledge all of them. A lost connection is not an error: the broker redelivers them."""

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Put a durable copy of one of them into the dead-letter queue, before `ack` removes it from the queue.

        Raises the same errors as `Publisher.publish`.
        """


class Consumer(Protocol):
    """The consuming side, for one worker."""

    def batches(self, size: int, linger: float) -> AsyncIterator[Batch]:
        """Yield batches of at most `size` deliveries. No delivery waits longer than `linger` seconds for others.

        A delivery that the broker marks as redelivered is a batch of its own. While a new process handles such a
        delivery, none of its consumers holds another one. If the delivery crashes the process, it therefore does not
        bring other deliveries closer to the delivery limit. After `stop`, the iterator yields the deliveries that have
        already arrived, and ends.
        """

    async def stop(self) -> None:
        """Take no more deliveries from the queue."""

    async def release(self) -> None:
        """Requeue all unacked deliveries for other consumers, within a bounded time, and end."""


class Broker(PublishingBroker, Protocol):
    """Both sides, and the broker's state."""

    async def consume(self, prefetch: int) -> Consumer:
        """Wait until the broker is reachable; return a consumer that holds at most `prefetch` unacked deliveries.

        The payloads that all consumers of the broker hold together are limited in bytes as well. One delivery at most
        exceeds that limit.
        """

    @property
    def held(self) -> Held:
        """What the consumers hold. Never waits."""

    @property
    def returns(self) -> int:
        """How often consumers returned deliveries to the queue because their payloads were too large together."""

    async def depths(self) -> Depths:
        """Return how full the broker is. Raises `BrokerUnavailable`."""


class DeadLetters(Protocol):
    """One visit to the dead letters. Receivers and processors may keep working at the same time."""

    @property
    def total(self) -> int:
        """How many dead letters there were when the visit began."""

    def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield the letters that existed when the visit began, usually the oldest first. Call it once per visit.

        It omits letters that are added during the visit, such as one that was replayed and failed again. Reading
        letters does not change them. Raises `BrokerUnavailable`.
        """

    def arrivals(self) -> AsyncIterator[DeadLetter]:
        """Yield the letters that were added since the visit or the last call of `arrivals` began. Never waits for more.

        Call it only after `letters` has ended. Raises `BrokerUnavailable`.
        """

    async def replay(self, letter: DeadLetter) -> bool:
        """Publish the delivery of a letter to the queue, and then remove the letter.

        The letter may have another payload than the one that was read. Calls may overlap. A crash in between may leave
        both, but loses nothing. Returns whether the letter still existed. Raises the same
        errors as `Publisher.publish`; the letter then stays.
        """

    async def drop(self, letter: DeadLetter) -> bool:
        """Delete a letter; return whether it still existed. Calls may overlap. Raises `BrokerUnavailable`."""
