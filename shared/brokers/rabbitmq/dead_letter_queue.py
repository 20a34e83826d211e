"""The dead letters in RabbitMQ: `shared.brokers.interface.DeadLetters`.

AMQP has no way to read a queue without taking its messages. A visit takes them page by page and, at its end, requeues
all that it has not acked. Until then, no other client sees them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from shared.brokers.interface import DeadLetter
from shared.brokers.rabbitmq.link import Link, describe, is_refusal, within
from shared.brokers.rabbitmq.messages import (
    DeliveryProperties,
    from_dead_letter,
    times_returned,
    to_dead_letter,
    unix_milliseconds,
)
from shared.brokers.rabbitmq.publishing import ConfirmingPublisher
from shared.brokers.rabbitmq.topology import Topology, message_count
from shared.brokers.rabbitmq.underlay import (
    ChannelLockedResource,
    Envelope,
    PushedMessage,
    ack,
    consume,
    nack_all,
    tolerate_any_properties,
)
from shared.errors import BrokerUnavailable

VISIT_CONNECT_SECONDS = 10.0
"""How long a visit waits for RabbitMQ."""

CALL_SECONDS = 10.0
"""Timeout of a call to RabbitMQ, in seconds."""

PUBLISH_SECONDS = 10.0
"""Timeout of a confirm, in seconds."""

FIRST_PAGE = 10
"""Letters on the first page, whose size is not known yet."""

LARGEST_PAGE = 200
"""Maximum number of letters on a page."""

PAGE_BYTES = 16 * 1024 * 1024
"""A page has as many letters as have this many bytes of payloads, if they are as large as those of the page before."""

LULL_SECONDS = 1.0
"""How long a page waits for its next letter. Then it ends, and basic.get tells whether the queue is empty."""

ACKS_AT_ONCE = 100
"""How many acks are written together. RabbitMQ writes each ack to the disk."""

WORN = 10
"""How often a letter is requeued before a copy replaces it: half of RabbitMQ 4's default delivery limit."""

_Taken = PushedMessage | AbstractIncomingMessage
"""A message that RabbitMQ pushed, or the answer to a basic.get."""

_Result = TypeVar("_Result")


@asynccontextmanager
async def rabbit_dead_letters(url: str, topology: Topology) -> AsyncIterator["RabbitDeadLetters"]:
    """Visit the dead letters of a topology, which must exist.

    Raises `BrokerUnavailable` if RabbitMQ cannot be reached in time, if the queue does not exist, or during another
    visit.
    """
    tolerate_any_properties()

    async def prepare(connection: AbstractConnection) -> None:
        await publisher.open(connection)

    link = Link(URL(url), "promgithub dead-letters", prepare)
    publisher = ConfirmingPublisher(link, PUBLISH_SECONDS)
    link.start()
    try:
        await _connected(link)
        channel = await _asked(link.connection.channel(publisher_confirms=False))
        total = await _asked(_enter(channel, topology.dead_letter_queue))
        visit = RabbitDeadLetters(topology, link.connection, channel, publisher, total)
        try:
            yield visit
        finally:
            await visit.ack_all()
            await _asked(_leave(channel, topology.dead_letter_queue))
    finally:
        await link.close()


class RabbitDeadLetters:
    """One visit, over a channel of its own."""

    def __init__(
        self,
        topology: Topology,
        connection: AbstractConnection,
        channel: AbstractChannel,
        publisher: ConfirmingPublisher,
        total: int,
    ) -> None:
        """`total` letters were ready when the visit began."""
        self._topology = topology
        self._connection = connection
        self._channel = channel
        self._publisher = publisher
        self._total = total
        self._page_length = FIRST_PAGE
        self._removed: set[int] = set()  # removed letters that are not acked yet
        self._acked_through = 0  # RabbitMQ numbers the messages of a channel from 1

    @property
    def total(self) -> int:
        """How many dead letters there were when the visit began."""
        return self._total

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield them in RabbitMQ's order, which starts with the messages that were requeued before."""
        left = self._total
        while left and (page := await self._page(left)):
            for message in page:
                letter = from_dead_letter(message, unix_milliseconds())
                if times_returned(message) >= WORN:
                    await self._renew(message, letter)  # the copy follows at the end of the queue
                    continue
                left -= 1
                yield letter

    async def arrivals(self) -> AsyncIterator[DeadLetter]:
        """Yield what is ready now. The visit has taken all older letters."""
        await self.ack_all()
        left = await _asked(message_count(self._channel, self._topology.dead_letter_queue))
        while left > 0 and (page := await self._page(left)):
            left -= len(page)
            for message in page:
                yield from_dead_letter(message, unix_milliseconds())

    async def replay(self, letter: DeadLetter) -> bool:
        """Publish the delivery and, once that is confirmed, ack the letter."""
        delivery = letter.delivery
        await self._publisher.publish(
            Envelope(self._topology.exchange, delivery.event, delivery.body, DeliveryProperties(delivery))
        )
        return await self.drop(letter)

    async def drop(self, letter: DeadLetter) -> bool:
        """Ack the letter, soon. RabbitMQ has processed the ack once the visit ends without an error."""
        self._removed.add(letter.number)
        if len(self._removed) >= ACKS_AT_ONCE:
            await self._ack_first()
        return True

    async def ack_all(self) -> None:
        """Ack all removed letters now."""
        await self._ack_first()
        while self._removed:
            await _asked(ack(self._channel, self._removed.pop()))

    async def _ack_first(self) -> None:
        """Ack the letters before the first one that is not removed, with one frame."""
        through = self._acked_through
        while through + 1 in self._removed:
            through += 1
            self._removed.remove(through)
        if through > self._acked_through:
            self._acked_through = through
            await _asked(ack(self._channel, through, multiple=True))

    async def _page(self, left: int) -> list[_Taken]:
        """Take the next page, of at most `left` messages. It is empty only if the queue is."""
        page = await self._pushed(min(left, self._page_length)) or await self._pulled()
        if page:
            mean = 1 + sum(len(message.body) for message in page) // len(page)
            self._page_length = min(LARGEST_PAGE, max(1, PAGE_BYTES // mean))
        return page

    async def _pushed(self, most: int) -> list[_Taken]:
        """Let RabbitMQ push up to `most` messages: a basic.get for each would write to the disk for each."""
        arrived: asyncio.Queue[_Taken] = asyncio.Queue()
        await _asked(self._channel.set_qos(prefetch_count=most))  # nothing is acked while this consumer exists
        tag = await _asked(
            consume(self._connection, self._channel, self._topology.dead_letter_queue, arrived.put_nowait)
        )
        page: list[_Taken] = []
        try:
            while len(page) < most:
                async with asyncio.timeout(LULL_SECONDS):
                    page.append(await arrived.get())
        except TimeoutError:
            pass
        await _asked((await self._queue()).cancel(tag))
        return page + [arrived.get_nowait() for _ in range(arrived.qsize())]

    async def _pulled(self) -> list[_Taken]:
        """Take one message, or none if the queue is empty."""
        message = await _asked((await self._queue()).get(fail=False, timeout=CALL_SECONDS))
        return [] if message is None else [message]

    async def _queue(self) -> AbstractQueue:
        return await self._channel.get_queue(self._topology.dead_letter_queue, ensure=False)

    async def _renew(self, message: _Taken, letter: DeadLetter) -> None:
        """Replace a letter by a copy that was never requeued.

        An older queue, or one with a policy, may have a delivery limit; RabbitMQ deletes a letter that exceeds it.
        """
        incoming = message.incoming() if isinstance(message, PushedMessage) else message
        copy = to_dead_letter(incoming, letter.reason, letter.detail, letter.dead_at or unix_milliseconds())
        await self._publisher.publish(Envelope("", self._topology.dead_letter_queue, copy.body, copy.properties))
        await self.drop(letter)


async def _connected(link: Link) -> None:
    if not await link.holds_within(lambda: link.up, VISIT_CONNECT_SECONDS):
        raise BrokerUnavailable(
            f"no connection to RabbitMQ at {link.address} in {VISIT_CONNECT_SECONDS:g} s ({link.trouble})"
        )


async def _enter(channel: AbstractChannel, queue: str) -> int:
    """Begin a visit, which excludes others until it ends; return how many letters are ready."""
    try:
        await channel.declare_queue(_lock_queue(queue), exclusive=True)
    except ChannelLockedResource:
        raise BrokerUnavailable(f"{queue}: another promgithub dead-letters is running; wait until it ends") from None
    try:
        return await message_count(channel, queue)
    except ChannelNotFoundEntity:
        raise BrokerUnavailable(f"{queue}: RabbitMQ has no such queue; check PROMGITHUB_QUEUE_NAME") from None


async def _leave(channel: AbstractChannel, queue: str) -> None:
    """Requeue the unacked letters and delete the lock queue.

    RabbitMQ processes the frames of a channel in order, so its answer to the deletion also confirms the acks.
    """
    if channel.is_closed:
        raise ConnectionError("the connection was cut")
    # Closing the channel would requeue them too, but RabbitMQ 4.3 counts that, unlike a nack, as a redelivery.
    await nack_all(channel)
    await channel.queue_delete(_lock_queue(queue))
    await channel.close()


def _lock_queue(queue: str) -> str:
    """Return the name of the exclusive queue that serves as a lock.

    Only one connection can declare it, and RabbitMQ deletes it when that connection closes.
    """
    return f"{queue}.visit"


async def _asked(work: Awaitable[_Result]) -> _Result:
    """Return RabbitMQ's answer. Raises `BrokerUnavailable` if no answer arrives in time or the connection is lost."""
    try:
        return await within(CALL_SECONDS, work)
    except BrokerUnavailable:
        raise
    except Exception as error:
        what = "refuses" if is_refusal(error) else "does not answer"
        raise BrokerUnavailable(f"RabbitMQ {what} ({describe(error)})") from error
