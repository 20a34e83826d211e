"""Functions of aiormq and pamqp, the layers below aio-pika, that the RabbitMQ adapter needs.

aio-pika either has no call for them, or its call costs too much CPU per message. docs/decisions/0008 has the reason for
each. No other module may import aiormq or pamqp.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Protocol

import aiormq.connection
from aio_pika import IncomingMessage
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, FieldValue
from aiormq import ChannelInvalidStateError, ChannelLockedResource, ConnectionClosed, spec
from aiormq.abc import ChannelFrame, DeliveredMessage
from pamqp import decode, encode, frame
from pamqp.common import FieldTable
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER

from shared.waiting import Deadlines

__all__ = [
    "ChannelLockedResource",
    "ConfirmChannel",
    "ConsumerChannel",
    "Envelope",
    "PushedMessage",
    "ack",
    "consume",
    "encodable",
    "is_blocked",
    "keep_reasons_of_refusals",
    "nack_all",
    "tolerate_any_properties",
]

WRITE_BYTES = 512 * 1024
"""Size of a write in bytes. A message that comes after this size goes into the next write."""

_UNBLOCKED_SECONDS = 0.05
_EVERY_TAG = 0  # AMQP 0-9-1, basic.ack.multiple: tag 0 stands for every outstanding message of the channel

_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQ")


# --- The state of a connection ---


async def is_blocked(connection: AbstractConnection) -> bool:
    """Return whether RabbitMQ has sent Connection.Blocked and not yet Connection.Unblocked.

    RabbitMQ sends Connection.Blocked only to connections that have published.
    """
    if connection.transport is None:
        return False
    try:
        async with asyncio.timeout(_UNBLOCKED_SECONDS):
            await connection.transport.ready()
    except TimeoutError:
        return True
    return False


# --- The reason of a refusal ---


def keep_reasons_of_refusals() -> None:
    """Make aiormq raise `ConnectionClosed` with RabbitMQ's reply if it refuses a connection during the handshake.

    It does not do so by itself for a virtual host that does not exist, or that the user has no rights on: it raises
    `InvalidFrameError` with the address of an object in memory (aiormq 6, `Connection._rpc`).
    """
    aiormq.Connection._rpc = staticmethod(_call)  # type: ignore[method-assign,assignment]


class _ReplyReader:
    """Reads the frames of a handshake. Raises `ConnectionClosed` if RabbitMQ closes the connection."""

    def __init__(self, receiver: aiormq.connection.FrameReceiver) -> None:
        self._receiver = receiver

    async def get_frame(self) -> tuple[int, int, object]:
        size, channel, received = await self._receiver.get_frame()
        if isinstance(received, spec.Connection.Close):
            raise ConnectionClosed(received.reply_code, received.reply_text)
        return size, channel, received


_handshake_call = aiormq.Connection._rpc


async def _call(
    request: object,
    writer: asyncio.StreamWriter,
    frame_receiver: aiormq.connection.FrameReceiver,
    wait_response: bool = True,
) -> object:
    return await _handshake_call(request, writer, _ReplyReader(frame_receiver), wait_response)  # type: ignore[arg-type]


# --- Decoding the properties of any message ---


def tolerate_any_properties() -> None:
    """Make pamqp accept properties that it cannot decode.

    Text that is not UTF-8 gets replacement characters. A time stamp after the year 9999 becomes None. A table that
    contains such a time stamp becomes empty. Without this, aiormq closes the connection. RabbitMQ then redelivers the
    message with all others in flight, until all of them reach the delivery limit.
    """
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = _timestamp
    decode.METHODS["table"] = _table


def encodable(value: FieldValue) -> FieldValue:
    """Return the value of a header, or its text form if pamqp cannot encode the value."""
    try:
        encode.encode_table_value(value)
    except (TypeError, ValueError, OverflowError, struct.error):
        return str(value)
    return value


def _short_text(value: bytes) -> tuple[int, str]:
    length = value[0] + 1
    return length, value[1:length].decode(errors="replace")


def _timestamp(value: bytes) -> tuple[int, datetime | None]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError):
        return 8, None


def _table(value: bytes) -> tuple[int, FieldTable]:
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError):
        return 4 + int.from_bytes(value[:4], "big"), {}


# --- Consuming ---


class PushedMessage:
    """A message that RabbitMQ pushed. Creating it costs less CPU than an `aio_pika.IncomingMessage`."""

    __slots__ = ("_delivered", "arrived_at", "redelivered")

    def __init__(self, delivered: DeliveredMessage) -> None:
        self._delivered = delivered
        self.arrived_at = time.monotonic()
        """Time of arrival on the monotonic clock, in seconds."""
        self.redelivered = bool(delivered.redelivered)
        """Whether RabbitMQ has delivered it before."""

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self._delivered.body)

    @property
    def body(self) -> bytes:
        """The content."""
        return self._delivered.body

    @property
    def message_id(self) -> str | None:
        """The property `message-id`."""
        return self._delivered.header.properties.message_id

    @property
    def type(self) -> str | None:
        """The property `type`."""
        return self._delivered.header.properties.message_type

    @property
    def timestamp(self) -> datetime | None:
        """The property `timestamp`."""
        return self._delivered.header.properties.timestamp

    @property
    def headers(self) -> Mapping[str, FieldValue]:
        """The property `headers`; empty if there are none."""
        return self._delivered.header.properties.headers or {}

    @property
    def delivery_tag(self) -> int | None:
        """Its number on its channel."""
        return self._delivered.delivery_tag

    @property
    def is_lost(self) -> bool:
        """Whether its channel is closed. It can then no longer be acked, and RabbitMQ redelivers it."""
        return self._delivered.channel.is_closed

    async def ack_through(self) -> None:
        """Ack this message and all earlier ones of its channel, with one frame. Raises aiormq's errors."""
        await self._delivered.channel.basic_ack(self._delivered.delivery_tag or 0, multiple=True)

    def incoming(self) -> AbstractIncomingMessage:
        """Return it as aio-pika's type."""
        return IncomingMessage(self._delivered)


async def consume(channel: AbstractChannel, queue: str, received: Callable[[PushedMessage], None]) -> str:
    """Start a consumer on a queue and return its tag; `received` is called with each message."""
    return await _consume(await channel.get_underlay_channel(), queue, received)


async def _consume(channel: "aiormq.abc.AbstractChannel", queue: str, received: Callable[[PushedMessage], None]) -> str:
    async def push(message: DeliveredMessage) -> None:
        received(PushedMessage(message))

    return str((await channel.basic_consume(queue, push)).consumer_tag)


class ConsumerChannel:
    """A channel that consumes one queue. After it is closed, nothing of it stays in memory.

    A channel of aio-pika stays in memory until its connection ends, and consumers open channels again and again.
    """

    def __init__(self, channel: "aiormq.abc.AbstractChannel", queue: str) -> None:
        """Use `open`."""
        self._channel = channel
        self._queue = queue

    @classmethod
    async def open(
        cls, connection: AbstractConnection, queue: str, closed: Callable[[], None], cancelled: Callable[[str], None]
    ) -> "ConsumerChannel":
        """Open a channel. `closed` is called when it is closed for any reason.

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
        return cls(channel, queue)

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._channel.is_closed

    async def consume(self, prefetch: int, received: Callable[[PushedMessage], None]) -> str:
        """Start a consumer with at most `prefetch` unacked messages and return its tag.

        `received` is called with each message.
        """

        await self._channel.basic_qos(prefetch_count=prefetch)  # applies only to the next consumer on the channel
        return await _consume(self._channel, self._queue, received)

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


# --- Publishing ---


class Properties(Protocol):
    """The properties of a message to be published, such as those of an `aio_pika.Message`."""

    @property
    def message_id(self) -> str | None:
        """The property `message-id`."""

    def marshal(self) -> bytes:
        """Return the encoded properties, flags and values (AMQP 0-9-1 section 4.2.6.1)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and its destination."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties


class ConfirmChannel:
    """A channel with publisher confirms. It writes all waiting messages at once.

    The frames of one message are not mixed with those of another. aiormq still receives the confirms, the returned
    messages and Channel.Close. After it is closed, its owner may open it again.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        """`deadlines` limits the time that a confirm may take."""
        self._deadlines = deadlines
        self._channel: aiormq.Channel | None = None
        self._outgoing: _Outgoing = {}
        self._unconfirmed: set[asyncio.Future[object]] = set()
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it accepts messages."""
        return self._channel is not None and not self._channel.is_closed

    async def open(self, connection: AbstractConnection, closed: Callable[[], None]) -> None:
        """Open the channel; `closed` is called when it is closed for any reason."""
        opened = await connection.channel(publisher_confirms=True, on_return_raises=True)
        channel = await opened.get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)  # noqa: S101 - the only implementation
        self._channel, self._outgoing, self._unconfirmed = channel, {}, set()

        def end(
            closing: "asyncio.Future[object]", unconfirmed: set[asyncio.Future[object]] = self._unconfirmed
        ) -> None:
            _fail_unconfirmed(unconfirmed, closing)
            closed()

        channel.closing.add_done_callback(end)

    async def send(self, envelope: Envelope) -> None:
        """Publish a message and wait for its confirm.

        Raises `TimeoutError`, aiormq's error for a nack, a returned message or a closed channel, or the error of
        `Properties.marshal`.
        """
        channel = self._channel
        if channel is None or channel.is_closed:
            raise ChannelInvalidStateError("closed")
        confirmed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        outgoing, unconfirmed = self._outgoing, self._unconfirmed
        outgoing[confirmed] = _Marshalled(envelope.properties.message_id, _marshalled(envelope, channel))
        unconfirmed.add(confirmed)
        self._deadlines.watch(confirmed)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(channel, outgoing))
        try:
            await confirmed
        finally:
            outgoing.pop(confirmed, None)
            unconfirmed.discard(confirmed)

    async def _write(self, channel: aiormq.Channel, outgoing: "_Outgoing") -> None:
        """Write until no message waits or the channel is closed. `_fail_unconfirmed` then fails the senders."""
        while outgoing and not channel.is_closed:
            payload = b"".join(chain.from_iterable(_next(channel, outgoing)))
            written = channel.create_future()
            await channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=written))
            await asyncio.wait({written})


@dataclass(frozen=True, slots=True)
class _Marshalled:
    """An encoded message that waits to be written, in pieces."""

    message_id: str | None
    pieces: Sequence[bytes]


_Outgoing = dict["asyncio.Future[object]", _Marshalled]


def _marshalled(envelope: Envelope, channel: aiormq.Channel) -> Sequence[bytes]:
    """Return the frames of a message (AMQP 0-9-1 sections 2.3.5 and 4.2.6). A body that fits in one is not copied."""
    number, body, most = channel.number, envelope.body, channel.max_content_size
    properties = envelope.properties.marshal()
    pieces = [
        _method(number, envelope.exchange, envelope.routing_key),
        _FRAME.pack(FRAME_HEADER, number, _CONTENT.size + len(properties)),
        _CONTENT.pack(spec.Basic.frame_id, 0, len(body)),
        properties,
        FRAME_END_CHAR,
    ]
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        pieces += (_FRAME.pack(FRAME_BODY, number, len(piece)), piece, FRAME_END_CHAR)
    return pieces


def _next(channel: aiormq.Channel, outgoing: _Outgoing) -> Iterator[Sequence[bytes]]:
    """Take the messages of the next write, register them for their confirms, and yield their pieces."""
    size = 0
    while outgoing and size < WRITE_BYTES:
        confirmed = next(iter(outgoing))
        message = outgoing.pop(confirmed)
        _expect(channel, confirmed, message.message_id)
        size += sum(map(len, message.pieces))
        yield message.pieces


def _expect(channel: aiormq.Channel, confirmed: "asyncio.Future[object]", message_id: str | None) -> None:
    channel.delivery_tag += 1
    tag = channel.delivery_tag
    channel.confirmations[tag] = confirmed
    if message_id is None:
        return
    channel.message_id_delivery_tag[message_id] = tag

    def forget(_: object) -> None:
        if channel.message_id_delivery_tag.get(message_id) == tag:
            del channel.message_id_delivery_tag[message_id]

    confirmed.add_done_callback(forget)


@lru_cache(maxsize=1024)
def _method(channel: int, exchange: str, routing_key: str) -> bytes:
    return frame.marshal(spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True), channel)


def _fail_unconfirmed(unconfirmed: set["asyncio.Future[object]"], closing: "asyncio.Future[object]") -> None:
    """Fail the senders of unconfirmed messages with the reason for which the channel was closed."""
    reason = None if closing.cancelled() else closing.exception()
    for confirmed in list(unconfirmed):
        if not confirmed.done():
            confirmed.set_exception(reason or ChannelInvalidStateError("closed"))
