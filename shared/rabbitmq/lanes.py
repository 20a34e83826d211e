"""Channels that publish with confirms; what is published at the same time goes out together.

aiormq's own `basic_publish` hands one message at a time to the connection and waits until it is written, which is most
of what a publish costs under load. Here all that has come meanwhile is one write. What confirms, returns and closes a
channel stays aiormq's business.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from aiormq import ChannelInvalidStateError, spec
from aiormq.abc import AbstractConnection, ChannelFrame
from aiormq.channel import Channel
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

WRITE_BYTES = 512 * 1024
"""Bytes past which no more messages go into a write."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and where it goes."""

    exchange: str
    routing_key: str
    body: bytes
    properties: spec.Basic.Properties


class Lane:
    """A channel with confirms, opened again by whoever owns it when something has closed it."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._outgoing: _Outgoing = {}
        self._unconfirmed: set[asyncio.Future[object]] = set()
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be published on."""
        return self._channel is not None and not self._channel.is_closed

    @property
    def unconfirmed(self) -> int:
        """Messages that are not confirmed yet."""
        return len(self._unconfirmed)

    async def open(self, connection: AbstractConnection, closed: Callable[[], None]) -> None:
        """Open the channel; `closed` is called when something closes it."""
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        assert isinstance(channel, Channel)  # noqa: S101 - the only kind that there is
        self._channel, self._outgoing, self._unconfirmed = channel, {}, set()

        def end(
            closing: "asyncio.Future[object]", unconfirmed: set[asyncio.Future[object]] = self._unconfirmed
        ) -> None:
            _fail(unconfirmed, closing)
            closed()

        channel.closing.add_done_callback(end)

    async def send(self, envelope: Envelope) -> None:
        """Publish, and wait for the confirm.

        Raises what aiormq says of a nack, a return or the end of the channel, or pamqp of what it cannot encode.
        """
        channel = self._channel
        if channel is None or channel.is_closed:
            raise ChannelInvalidStateError("closed")
        confirmed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        outgoing, unconfirmed = self._outgoing, self._unconfirmed
        outgoing[confirmed] = _Marshalled(envelope.properties.message_id, _marshalled(envelope, channel))
        unconfirmed.add(confirmed)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(channel, outgoing))
        try:
            await confirmed
        finally:
            outgoing.pop(confirmed, None)
            unconfirmed.discard(confirmed)

    async def _write(self, channel: Channel, outgoing: "_Outgoing") -> None:
        """Write until there is nothing left to write, or the channel ends, of which the senders hear elsewhere."""
        while outgoing and not channel.is_closed:
            payload = b"".join(_next(channel, outgoing))
            written = channel.create_future()
            await channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=written))
            await asyncio.wait({written})


@dataclass(frozen=True, slots=True)
class _Marshalled:
    """The frames of a message that waits to be written."""

    message_id: str | None
    frames: bytes


_Outgoing = dict["asyncio.Future[object]", _Marshalled]


def _marshalled(envelope: Envelope, channel: Channel) -> bytes:
    number, body = channel.number, envelope.body
    header = frame.marshal(ContentHeader(properties=envelope.properties, body_size=len(body)), number)
    starts = range(0, len(body), channel.max_content_size)
    pieces = (frame.marshal(ContentBody(body[start : start + channel.max_content_size]), number) for start in starts)
    return b"".join([_method(number, envelope.exchange, envelope.routing_key), header, *pieces])


def _next(channel: Channel, outgoing: _Outgoing) -> Iterator[bytes]:
    """Take the next messages and yield their frames; from now on the channel expects their confirms."""
    size = 0
    while outgoing and size < WRITE_BYTES:
        confirmed = next(iter(outgoing))
        message = outgoing.pop(confirmed)
        _expect(channel, confirmed, message.message_id)
        size += len(message.frames)
        yield message.frames


def _expect(channel: Channel, confirmed: "asyncio.Future[object]", message_id: str | None) -> None:
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


def _fail(unconfirmed: set["asyncio.Future[object]"], closing: "asyncio.Future[object]") -> None:
    """Let everybody who waits for a confirm know why there will be none."""
    reason = None if closing.cancelled() else closing.exception()
    for confirmed in list(unconfirmed):
        if not confirmed.done():
            confirmed.set_exception(reason or ChannelInvalidStateError("closed"))
