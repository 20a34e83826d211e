"""Channels that publish with confirms; what is published at the same time goes out together.

aiormq's own `basic_publish` hands one message at a time to the connection and waits until it is written, which is most
of what a publish costs under load. Here all that has come meanwhile is one write. What confirms, returns and closes a
channel stays aiormq's business.
"""

import asyncio
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Protocol

from aiormq import ChannelInvalidStateError, spec
from aiormq.abc import AbstractConnection, ChannelFrame
from aiormq.channel import Channel
from pamqp import frame
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER

from shared.waiting import Deadlines

WRITE_BYTES = 512 * 1024
"""Bytes past which no more messages go into a write."""

_FRAME = struct.Struct(">BHI")
_CONTENT = struct.Struct(">HHQ")


class Properties(Protocol):
    """The properties of a message; pamqp's are."""

    @property
    def message_id(self) -> str | None:
        """What tells duplicates."""

    def marshal(self) -> bytes:
        """Return them in the form that goes over the wire (AMQP 0-9-1 section 4.2.6.1: flags and values)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message and where it goes."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties


class Lane:
    """A channel with confirms, opened again by whoever owns it when something has closed it."""

    def __init__(self, deadlines: Deadlines) -> None:
        """`deadlines`: those of the confirms."""
        self._deadlines = deadlines
        self._channel: Channel | None = None
        self._outgoing: _Outgoing = {}
        self._unconfirmed: set[asyncio.Future[object]] = set()
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be published on."""
        return self._channel is not None and not self._channel.is_closed

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

        Raises `TimeoutError`, what aiormq says of a nack, a return or the end of the channel, or what the properties
        say of what cannot be marshalled.
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

    async def _write(self, channel: Channel, outgoing: "_Outgoing") -> None:
        """Write until there is nothing left to write, or the channel ends, of which the senders hear elsewhere."""
        while outgoing and not channel.is_closed:
            payload = b"".join(chain.from_iterable(_next(channel, outgoing)))
            written = channel.create_future()
            await channel.write_queue.put(ChannelFrame(payload, should_close=False, drain_future=written))
            await asyncio.wait({written})


@dataclass(frozen=True, slots=True)
class _Marshalled:
    """A message that waits to be written: pieces, to be joined with those of others."""

    message_id: str | None
    pieces: Sequence[bytes]


_Outgoing = dict["asyncio.Future[object]", _Marshalled]


def _marshalled(envelope: Envelope, channel: Channel) -> Sequence[bytes]:
    """Return the frames of a message (AMQP 0-9-1 sections 2.3.5 and 4.2.6), the body not copied if it fits in one."""
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


def _next(channel: Channel, outgoing: _Outgoing) -> Iterator[Sequence[bytes]]:
    """Take the next messages and yield their pieces; from now on the channel expects their confirms."""
    size = 0
    while outgoing and size < WRITE_BYTES:
        confirmed = next(iter(outgoing))
        message = outgoing.pop(confirmed)
        _expect(channel, confirmed, message.message_id)
        size += sum(map(len, message.pieces))
        yield message.pieces


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
