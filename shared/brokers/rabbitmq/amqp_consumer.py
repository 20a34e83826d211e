"""Consuming in batches: messages that RabbitMQ pushes wait in an inbox. The prefetch limits its length."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from shared.brokers.interface import NOTHING_HELD, Held
from shared.brokers.rabbitmq.inbox import Inbox, Room
from shared.brokers.rabbitmq.link import Link, cut_as_error, describe, within
from shared.brokers.rabbitmq.messages import to_dead_letter, to_delivery, unix_milliseconds
from shared.brokers.rabbitmq.publishing import ConfirmingPublisher
from shared.brokers.rabbitmq.underlay import ConsumerChannel, Envelope, PushedMessage
from shared.delivery import Delivery
from shared.errors import QueueFull
from shared.logs import get_logger
from shared.waiting import is_set_within

ACK_SECONDS = 5.0
"""Timeout of writing an ack, in seconds. RabbitMQ sends no answer to it."""

CANCEL_SECONDS = 5.0
"""Timeout of Basic.Cancel, in seconds."""

IDLE_SECONDS = 60.0
"""After so long without a message, in seconds, a consumer opens a new channel.

If a queue is deleted and declared again at once, RabbitMQ 3.10 may keep the consumers of the old queue without a
Basic.Cancel. It then counts messages as delivered to them that never arrive, until their channels are closed.
"""

_LOST = (AMQPError, ChannelInvalidStateError, OSError)
"""The errors of a call on a channel or connection that is lost."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetterPublisher:
    """Publishes copies of refused messages to the dead-letter queue."""

    queue: str
    publisher: ConfirmingPublisher

    async def put(self, message: PushedMessage, reason: str, detail: str) -> None:
        """Publish a copy of a message with the reason for dead-lettering it. Raises the same errors as a publish."""
        letter = to_dead_letter(message.incoming(), reason, detail, unix_milliseconds())
        try:
            await self.publisher.publish(Envelope("", self.queue, letter.body, letter.properties))
        except QueueFull:
            raise QueueFull(f"the dead-letter queue {self.queue} is full; replay or drop dead letters") from None


class RabbitBatch:
    """Messages of one channel. All of them arrived after the messages of the batches before."""

    def __init__(self, messages: Sequence[PushedMessage], dead_letters: DeadLetterPublisher) -> None:
        now = unix_milliseconds()
        self._messages = messages
        self._deliveries = [to_delivery(message, now) for message in messages]
        self._dead_letters = dead_letters

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The deliveries, in the order in which RabbitMQ gave them."""
        return self._deliveries

    async def ack(self) -> None:
        """Ack them with one frame (`multiple`), which also covers every earlier message of the channel."""
        try:
            async with asyncio.timeout(ACK_SECONDS):
                with cut_as_error():
                    await self._messages[-1].ack_through()
        except _LOST as error:
            _log.info(
                "ack failed, deliveries return to the queue", deliveries=len(self._messages), reason=describe(error)
            )

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Publish a copy of the message of one of `deliveries`, with all its properties, to the dead-letter queue."""
        index = next(i for i, own in enumerate(self._deliveries) if own is delivery)
        await self._dead_letters.put(self._messages[index], reason, detail)


class Group(Protocol):
    """The consumers of a process, as one of them sees the others."""

    @property
    def room(self) -> Room:
        """What all of them may hold together."""

    def fresh(self) -> None:
        """A message has arrived that is not redelivered."""

    def overflow(self) -> None:
        """A message has arrived for which there is no room."""

    def finished(self) -> None:
        """A batch is finished."""


class RabbitConsumer:
    """Takes messages over a channel of its own, because an ack covers all earlier messages of the channel.

    It has one user, who either acks a batch before asking for the next one, or never acks it.
    """

    def __init__(self, link: Link, queue: str, prefetch: int, dead_letters: DeadLetterPublisher, group: Group) -> None:
        """The `prepare` of `link` must call `attach`."""
        self._link = link
        self._queue = queue
        self._dead_letters = dead_letters
        self._group = group
        self._channel: ConsumerChannel | None = None
        self._allowed: dict[str, int] = {}  # how many unacked messages each consumer tag may have
        self._inbox = Inbox(group.room)
        self._enough = asyncio.Event()
        self._awaited = 1
        self._stale = False
        self._postponed = False
        self._returning = False
        self._stopping = False
        self._stopped = False
        self.released = False
        """Whether `release` was called."""
        self.attached = asyncio.Event()
        """Set once RabbitMQ has opened the channel of the consumer."""
        self.prefetch = prefetch
        """Maximum number of unacked messages."""

    @property
    def stopping(self) -> bool:
        """Whether `stop` or `end` was called: the consumer takes no more messages."""
        return self._stopping

    @property
    def held(self) -> Held:
        """What the consumer holds."""
        return NOTHING_HELD if self.released else self._inbox.held(unix_milliseconds())

    async def attach(self, connection: AbstractConnection, most: int) -> None:
        """Consume over this connection, with a prefetch of `most`.

        Does not lower a prefetch that was higher before. Takes no messages if the consumer is stopping.

        If the channel was lost, it takes none before the current batch is finished: they could only wait. RabbitMQ
        closes the channels of consumers that hold messages for too long (`consumer_timeout`). It would close one
        channel after the other, and each time count a redelivery for each message.
        """
        if self.released:
            return
        if self._channel is not None and await self._leaves(self._channel):
            await self._channel.close()
        self._postponed = self._inbox.batch_is_lost
        if self._postponed:
            self._drop()
            return
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._open(connection)
        more = most - sum(self._allowed.values())
        if more > 0 and not self._stopping and not self._stale:
            self._allowed[await self._channel.consume(more)] = more
        self.attached.set()
        if self._stopping:
            await self._cancel()

    def renew(self) -> None:
        """Request a new channel. The consumer takes no more messages over the old one, and first finishes those."""
        self._stale = True
        self._enough.set()
        self._link.nudge()

    def give_back(self) -> None:
        """Return all messages that wait to the queue, and request a new channel."""
        self._returning = True
        self._inbox.clear()
        self._link.nudge()

    async def batches(self, size: int, linger: float) -> AsyncIterator[RabbitBatch]:
        """Yield batches as `shared.brokers.interface.Consumer.batches` says, in the order in which messages arrived."""
        try:
            while messages := await self._collect(min(size, self.prefetch), linger):
                yield RabbitBatch(messages, self._dead_letters)
        finally:
            self._inbox.finish()

    async def stop(self) -> None:
        """Cancel the consumer; `batches` still yields the messages that have arrived."""
        self._stopping = True
        try:
            await within(CANCEL_SECONDS, self._cancel())
        except _LOST as error:
            _log.debug("the consumer was gone before it was cancelled", reason=describe(error))
        self.end()

    async def release(self) -> None:
        """Close the channel, so that RabbitMQ requeues the unacked messages."""
        self.released = True
        self.end()
        self._inbox.clear()
        self._inbox.finish()
        if self._channel is not None:
            try:
                await within(CANCEL_SECONDS, self._channel.close())
            except _LOST as error:
                _log.debug("the channel was gone before it was closed", reason=describe(error))

    def end(self) -> None:
        """End `batches`."""
        self._stopping = self._stopped = True
        self._enough.set()

    def _drop(self) -> None:
        """Drop what the last channel left. RabbitMQ redelivers its messages."""
        self._inbox.clear()
        self._allowed.clear()

    async def _open(self, connection: AbstractConnection) -> ConsumerChannel:
        self._drop()
        self._stale = self._returning = False
        return await ConsumerChannel.open(connection, self._queue, self._receive, self._link.nudge, self._cancelled)

    async def _leaves(self, channel: ConsumerChannel) -> bool:
        """Return whether to close a channel now. One that is to be replaced is first emptied."""
        if channel.is_closed:
            return False
        if self._returning or not self._stale:
            return self._returning
        await self._cancel()
        return self._inbox.is_free

    def _cancelled(self, tag: str) -> None:
        """Handle a Basic.Cancel from RabbitMQ."""
        self._allowed.pop(tag, None)
        self.renew()

    async def _cancel(self) -> None:
        tags, self._allowed = list(self._allowed), {}
        for tag in tags:
            if self._channel is not None and not self._channel.is_closed:
                await self._channel.cancel(tag)

    def _receive(self, message: PushedMessage) -> None:
        if self._returning or self.released:
            return  # its channel is about to be closed
        if not self._inbox.add(message):
            self._group.overflow()
            return
        if not message.redelivered:
            self._group.fresh()
        if len(self._inbox) >= self._awaited:
            self._enough.set()

    async def _collect(self, size: int, linger: float) -> Sequence[PushedMessage]:
        """Wait for the next batch; return an empty one at the end."""
        self._inbox.finish()
        self._group.finished()
        while True:
            self._inbox.drop_lost()
            if not self._inbox:
                if self._stopped:
                    return ()
                await self._wait_while_empty()
                continue
            first = self._inbox.first
            left = first.arrived_at + linger - time.monotonic()
            if first.redelivered or len(self._inbox) >= size or left <= 0 or self._stopped:
                return self._inbox.take(size)
            await self._wait_for(size, left)

    async def _wait_while_empty(self) -> None:
        """Wait for a message. Request a new channel if there is none for `IDLE_SECONDS`, or if one is due."""
        if self._stale or self._postponed:
            self._link.nudge()
        if not await self._wait_for(1, IDLE_SECONDS) and self._allowed and not self._inbox:
            _log.debug("no message for a while, starting a new consumer", seconds=IDLE_SECONDS)
            self.renew()

    async def _wait_for(self, count: int, seconds: float) -> bool:
        """Wait at most `seconds` until `count` messages are in the inbox or there is something else to do."""
        self._awaited = count
        self._enough.clear()
        return await is_set_within(self._enough, seconds)
