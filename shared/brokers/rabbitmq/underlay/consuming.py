"""Consuming with little CPU time for each message."""

import struct
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property

import aiormq
from aio_pika import IncomingMessage
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, FieldValue
from aiormq import spec
from aiormq.abc import DeliveredMessage

from shared.brokers.rabbitmq.underlay.connections import opened
from shared.brokers.rabbitmq.underlay.frames import header_of, method_of
from shared.brokers.rabbitmq.underlay.properties import MessageProperties, properties_of

_EVERY_TAG = 0  # AMQP 0-9-1, basic.ack.multiple: tag 0 stands for every outstanding message of the channel

_TAG = struct.Struct(">QB")
_CONSUMER_TAG = 4
"""Where the consumer tag begins in the payload of Basic.Deliver. The delivery tag and `redelivered` follow it."""


class PushedMessage:
    """A message that RabbitMQ pushed. Creating it costs less CPU than an `aio_pika.IncomingMessage`."""

    def __init__(self, channel: aiormq.abc.AbstractChannel, method: bytes, header: bytes, body: bytes) -> None:
        """`method` and `header` are the payloads of its Basic.Deliver and of its content header."""
        self._channel = channel
        self._method = method
        self._header = header
        self.body = body
        """The content."""
        self.arrived_at = time.monotonic()
        """Time of arrival on the monotonic clock, in seconds."""
        self.delivery_tag, redelivered = _TAG.unpack_from(method, _CONSUMER_TAG + 1 + method[_CONSUMER_TAG])
        """Its number on its channel."""
        self.redelivered = bool(redelivered & 1)
        """Whether RabbitMQ has delivered it before."""

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.body)

    @property
    def message_id(self) -> str | None:
        """The property `message-id`."""
        return self._properties.message_id

    @property
    def type(self) -> str | None:
        """The property `type`."""
        return self._properties.type

    @property
    def timestamp(self) -> datetime | None:
        """The property `timestamp`."""
        return self._properties.timestamp

    @property
    def headers(self) -> Mapping[str, FieldValue]:
        """The property `headers`; empty if there are none."""
        return self._properties.headers

    @cached_property
    def _properties(self) -> MessageProperties:
        return properties_of(self._header)

    @property
    def is_lost(self) -> bool:
        """Whether its channel is closed. It can then no longer be acked, and RabbitMQ redelivers it."""
        return self._channel.is_closed

    async def ack_through(self) -> None:
        """Ack this message and all earlier ones of its channel, with one frame. Raises aiormq's errors."""
        await self._channel.basic_ack(self.delivery_tag, multiple=True)

    def incoming(self) -> AbstractIncomingMessage:
        """Return it as aio-pika's type."""
        return IncomingMessage(
            DeliveredMessage(
                delivery=method_of(self._method, spec.Basic.Deliver()),
                header=header_of(self._header),
                body=self.body,
                channel=self._channel,
            )
        )


class _Messages:
    """Takes the messages of a channel."""

    def __init__(self, channel: aiormq.abc.AbstractChannel, received: Callable[[PushedMessage], None]) -> None:
        self._channel = channel
        self._received = received

    def content(self, method: bytes, header: bytes, body: bytes) -> None:
        self._received(PushedMessage(self._channel, method, header, body))

    def method(self, _payload: bytes) -> bool:
        return False


async def consume(
    connection: AbstractConnection, channel: AbstractChannel, queue: str, received: Callable[[PushedMessage], None]
) -> str:
    """Start a consumer on a queue, the only one of its channel, and return its tag.

    `received` is called with each message.
    """
    underlay = await channel.get_underlay_channel()
    _take_messages(connection, underlay, received)
    return await _consume(underlay, queue)


def _take_messages(
    connection: AbstractConnection, channel: aiormq.abc.AbstractChannel, received: Callable[[PushedMessage], None]
) -> None:
    frames, taker = opened(connection).frames, _Messages(channel, received)
    frames.attach(channel.number, taker)
    channel.closing.add_done_callback(lambda _: frames.detach(channel.number, taker))


async def _consume(channel: aiormq.abc.AbstractChannel, queue: str) -> str:
    async def not_called(_message: DeliveredMessage) -> None:
        raise AssertionError("the messages of this channel are taken before aiormq sees them")

    return str((await channel.basic_consume(queue, not_called)).consumer_tag)


class ConsumerChannel:
    """A channel that consumes one queue. After it is closed, nothing of it stays in memory.

    A channel of aio-pika stays in memory until its connection ends, and consumers open channels again and again.
    """

    def __init__(self, channel: aiormq.abc.AbstractChannel, queue: str) -> None:
        """Use `open`."""
        self._channel = channel
        self._queue = queue

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        queue: str,
        received: Callable[[PushedMessage], None],
        closed: Callable[[], None],
        cancelled: Callable[[str], None],
    ) -> "ConsumerChannel":
        """Open a channel. `received` is called with each message, `closed` when it is closed for any reason.

        `cancelled` is called with the tag of each consumer that RabbitMQ cancels, because the queue was deleted or its
        leader moved (https://www.rabbitmq.com/docs/consumer-cancel). RabbitMQ does not announce every such loss.
        """
        if connection.transport is None:
            raise ConnectionError("the connection was cut")
        channel = await connection.transport.connection.channel(publisher_confirms=False)

        def notify(cancel: spec.Basic.Cancel) -> None:
            cancelled(str(cancel.consumer_tag))

        channel.on_consumer_cancel_callbacks.add(notify)
        channel.closing.add_done_callback(lambda _: closed())
        _take_messages(connection, channel, received)
        return cls(channel, queue)

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._channel.is_closed

    async def consume(self, prefetch: int) -> str:
        """Start a consumer with at most `prefetch` unacked messages and return its tag."""
        await self._channel.basic_qos(prefetch_count=prefetch)  # applies only to the next consumer on the channel
        return await _consume(self._channel, self._queue)

    async def cancel(self, tag: str) -> None:
        """End a consumer. Its messages have arrived when this returns; they can still be acked."""
        await self._channel.basic_cancel(tag)

    async def close(self) -> None:
        """Close the channel; RabbitMQ requeues its unacked messages."""
        await self._channel.close()


async def ack(channel: AbstractChannel, delivery_tag: int, *, multiple: bool = False) -> None:
    """Ack the message that has a delivery tag; with `multiple`, also all earlier messages of the channel."""
    await (await channel.get_underlay_channel()).basic_ack(delivery_tag, multiple=multiple)


async def nack_all(channel: AbstractChannel) -> None:
    """Requeue all unacked messages of a channel."""
    await (await channel.get_underlay_channel()).basic_nack(_EVERY_TAG, multiple=True, requeue=True)
