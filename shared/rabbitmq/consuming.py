"""Consuming in batches: what RabbitMQ pushes waits in an inbox, which the prefetch bounds, until its batch is acked."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import aiormq
from aiormq import spec
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

from shared.delivery import Delivery
from shared.logs import get_logger
from shared.rabbitmq.lanes import Envelope
from shared.rabbitmq.link import Link, cut_as_error, describe, within
from shared.rabbitmq.messages import to_dead_letter, to_delivery
from shared.rabbitmq.publishing import Confirms
from shared.waiting import is_set_within

ACK_SECONDS = 5.0
"""Deadline of handing an ack to the connection; RabbitMQ does not answer it."""

CANCEL_SECONDS = 5.0
"""Deadline of telling RabbitMQ that no more deliveries are wanted."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Where dead letters go, and how."""

    queue: str
    confirms: Confirms

    async def put(self, message: DeliveredMessage, reason: str, detail: str) -> None:
        """Publish a copy of a message, with why it was refused; raises as a publish does."""
        properties = to_dead_letter(message.header.properties, reason, detail, _now())
        await self.confirms.publish(Envelope("", self.queue, message.body, properties))


class RabbitBatch:
    """Messages of one channel, each later than all that were acked before."""

    def __init__(self, messages: Sequence[DeliveredMessage], dead_letters: DeadLetters) -> None:
        now = _now()
        self._messages = messages
        self._deliveries = [to_delivery(message, now) for message in messages]
        self._dead_letters = dead_letters

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """The deliveries, in the order in which RabbitMQ gave them."""
        return self._deliveries

    async def ack(self) -> None:
        """Ack them with one frame, which covers every earlier message of the channel too."""
        newest = self._messages[-1]
        assert newest.delivery_tag is not None  # noqa: S101 - whatever is pushed has one
        try:
            async with asyncio.timeout(ACK_SECONDS):
                with cut_as_error():
                    await newest.channel.basic_ack(newest.delivery_tag, multiple=True)
        except (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError) as error:
            _log.info("not acked, will come back", deliveries=len(self._messages), reason=describe(error))

    async def dead_letter(self, delivery: Delivery, reason: str, detail: str) -> None:
        """Publish a copy of the message of one of `deliveries`, with all its properties, to the dead-letter queue."""
        index = next(i for i, own in enumerate(self._deliveries) if own is delivery)
        await self._dead_letters.put(self._messages[index], reason, detail)


class RabbitConsumer:
    """Takes messages over a channel of its own, so that its acks are its own.

    Has one owner: a batch must be acked, or given up with the process, before the next one is asked for.
    """

    def __init__(
        self, link: Link, queue: str, prefetch: int, dead_letters: DeadLetters, fresh: Callable[[], None]
    ) -> None:
        """`link` must have `attach` among its preparations; `fresh` is called with each delivery never seen before."""
        self._link = link
        self._queue = queue
        self._dead_letters = dead_letters
        self._fresh = fresh
        self._channel: AbstractChannel | None = None
        self._allowed: dict[str, int] = {}  # by consumer tag: how many messages RabbitMQ may have on their way
        self._inbox: deque[_Arrival] = deque()
        self._enough = asyncio.Event()
        self._awaited = 1
        self._stopping = False
        self._stopped = False
        self.released = False
        """Whether it is of no use any more."""
        self.attached = asyncio.Event()
        """Set once messages can come, or could if they were allowed to."""
        self.prefetch = prefetch
        """How many messages it holds at most."""

    @property
    def stopping(self) -> bool:
        """Whether it takes no more messages."""
        return self._stopping

    async def attach(self, connection: AbstractConnection, most: int) -> None:
        """Hold at most so many messages of a connection from now on, at least as many as before; none once stopped."""
        if self.released:
            return
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._open(connection)
        more = most - sum(self._allowed.values())
        if more > 0 and not self._stopping:
            await self._channel.basic_qos(prefetch_count=more)  # of the next consumer on the channel, not of all
            consuming = await self._channel.basic_consume(self._queue, self._receive)
            self._allowed[str(consuming.consumer_tag)] = more
        self.attached.set()
        if self._stopping:
            await self._cancel()

    async def batches(self, size: int, linger: float) -> AsyncIterator[RabbitBatch]:
        """Yield batches as `shared.broker.Consumer.batches` says, in the order in which messages arrived."""
        while messages := await self._collect(min(size, self.prefetch), linger):
            yield RabbitBatch(messages, self._dead_letters)

    async def stop(self) -> None:
        """Tell RabbitMQ to send no more; what has arrived stays for `batches`."""
        self._stopping = True
        try:
            await within(CANCEL_SECONDS, self._cancel())
        except (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError) as error:
            _log.debug("the consumer was gone before it was cancelled", reason=describe(error))
        self.end()

    async def release(self) -> None:
        """Close the channel, with which RabbitMQ takes back what was sent over it."""
        self.released = True
        self.end()
        self._inbox.clear()
        if self._channel is not None:
            try:
                await within(CANCEL_SECONDS, self._channel.close())
            except (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError) as error:
                _log.debug("the channel was gone before it was closed", reason=describe(error))

    def end(self) -> None:
        """Let `batches` end."""
        self._stopping = self._stopped = True
        self._enough.set()

    async def _open(self, connection: AbstractConnection) -> AbstractChannel:
        self._inbox.clear()  # what came over the last channel comes again
        self._allowed.clear()
        channel = await connection.channel(publisher_confirms=False)
        channel.closing.add_done_callback(lambda _: self._link.nudge())
        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        return channel

    def _cancelled(self, cancel: spec.Basic.Cancel) -> None:
        """Consume again: RabbitMQ has ended it because the queue was deleted or has moved."""
        self._allowed.pop(str(cancel.consumer_tag), None)
        self._link.nudge()

    async def _cancel(self) -> None:
        tags, self._allowed = list(self._allowed), {}
        for tag in tags:
            if self._channel is not None and not self._channel.is_closed:
                await self._channel.basic_cancel(tag)

    async def _receive(self, message: DeliveredMessage) -> None:
        self._inbox.append(_Arrival(message, time.monotonic()))
        if not message.redelivered:
            self._fresh()
        if len(self._inbox) >= self._awaited:
            self._enough.set()

    async def _collect(self, size: int, linger: float) -> list[DeliveredMessage]:
        """Wait for the next batch; an empty one means that there will be none."""
        while True:
            self._drop_lost()
            if not self._inbox:
                if self._stopped:
                    return []
                await self._wait_for(1)
                continue
            first = self._inbox[0]
            left = first.at + linger - time.monotonic()
            if first.message.redelivered or len(self._inbox) >= size or left <= 0 or self._stopped:
                return self._take(size)
            await self._wait_for(size, left)

    def _drop_lost(self) -> None:
        """Drop what cannot be acked any more; it comes again."""
        while self._inbox and self._inbox[0].message.channel.is_closed:
            self._inbox.popleft()

    async def _wait_for(self, count: int, seconds: float | None = None) -> None:
        """Wait until so many messages are in the inbox, or the end, or so long."""
        self._awaited = count
        self._enough.clear()
        if seconds is None:
            await self._enough.wait()
        else:
            await is_set_within(self._enough, seconds)

    def _take(self, size: int) -> list[DeliveredMessage]:
        """Take at most `size` messages; one that was redelivered comes alone."""
        fresh = takewhile(lambda arrival: not arrival.message.redelivered, islice(self._inbox, size))
        count = sum(1 for _ in fresh) or 1
        return [self._inbox.popleft().message for _ in range(count)]


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A message, and when it arrived, in seconds of the monotonic clock."""

    message: DeliveredMessage
    at: float


def _now() -> int:
    return int(time.time() * 1000)
