"""Reading frames in bulk.

aiormq waits three times for each frame, passes it through the queue of its channel, and starts a task for each message.
`FrameReader` takes the frames of messages and confirms from all bytes that have arrived, and leaves the others to
aiormq.
"""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError
from pamqp import frame, heartbeat
from pamqp.base import Frame
from pamqp.constants import FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD
from pamqp.header import ContentHeader
from yarl import URL

from shared.brokers.rabbitmq.underlay.outbox import Outbox

FRAME = struct.Struct(">BHI")
"""The type, the channel and the size of a frame's payload (AMQP 0-9-1 section 2.3.5)."""

CONTENT = struct.Struct(">HHQ")
"""The class, the weight and the size of the body: the start of a content header (AMQP 0-9-1 section 2.3.5.2)."""

DELIVER = bytes((0, 60, 0, 60))
"""Class and method of Basic.Deliver: the start of a method's payload (AMQP 0-9-1 section 2.3.5.1)."""

RETURN = bytes((0, 60, 0, 50))
"""Class and method of Basic.Return."""

ALIVE_SECONDS = 1.0
"""How often aiormq gets a heartbeat while frames are taken, in seconds.

RabbitMQ sends no heartbeats while it sends messages, and aiormq closes a connection from which it reads nothing."""

_WITH_CONTENT = (DELIVER, RETURN)
_READ_BYTES = 256 * 1024
_HEARTBEAT = frame.marshal(heartbeat.Heartbeat(), 0)


class Taker(Protocol):
    """Takes the messages and confirms of one channel, in the order in which they were sent."""

    def content(self, method: bytes, header: bytes, body: bytes) -> None:
        """Take a message: the payloads of its method (Basic.Deliver, Basic.Return) and header, and its body."""

    def method(self, payload: bytes) -> bool:
        """Take another method, if it is a confirm; return whether it is."""


class FrameReader(asyncio.StreamReader):
    """The reader of a connection. aiormq reads from it the frames that no taker takes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_READ_BYTES, loop)
        self._channels: dict[int, _Contents] = {}
        self._begun = b""  # the first bytes of a frame
        self._is_amqp = True
        self._clock = loop.time
        self._alive_at = 0.0

    def attach(self, channel: int, taker: Taker) -> None:
        """Let `taker` take the messages and confirms of a channel from now on."""
        self._channels[channel] = _Contents(taker)

    def detach(self, channel: int, taker: Taker) -> None:
        """End what `attach` began, if the channel has the same taker."""
        if channel in self._channels and self._channels[channel].taker is taker:
            del self._channels[channel]

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        """Handle bytes that have arrived."""
        if not self._is_amqp:
            super().feed_data(data)
            return
        if self._begun:
            data, self._begun = self._begun + data, b""
        left = self._split(data)
        if left:
            super().feed_data(b"".join(left))

    def feed_eof(self) -> None:
        """Handle the end of the connection. asyncio may call this twice."""
        if self._begun:
            begun, self._begun = self._begun, b""
            super().feed_data(begun)
        super().feed_eof()

    def _split(self, data: bytes) -> Sequence[bytes]:
        """Take frames; return what is left to aiormq."""
        left: list[bytes] = []
        taken = False
        begin, size = 0, len(data)
        while begin + FRAME.size < size:
            kind, number, length = FRAME.unpack_from(data, begin)
            payload = begin + FRAME.size
            end = payload + length
            if end >= size:
                break
            if data[end] != FRAME_END:
                self._is_amqp = False  # aiormq finds the same fault, and closes the connection
                return [*left, data[begin:]]
            contents = self._channels.get(number)
            if contents is not None and contents.take(kind, data[payload:end]):
                taken = True
            else:
                left.append(data[begin : end + 1])
            begin = end + 1
        self._begun = data[begin:]
        if taken and (now := self._clock()) - self._alive_at > ALIVE_SECONDS:
            self._alive_at = now
            left.append(_HEARTBEAT)
        return left


class _Contents:
    """Puts the frames of messages together."""

    def __init__(self, taker: Taker) -> None:
        self.taker = taker
        self._method: bytes | None = None
        self._header = b""
        self._pieces: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, payload: bytes) -> bool:
        """Take a frame; return whether it is part of a message or a confirm."""
        if kind == FRAME_METHOD:
            if payload[:4] not in _WITH_CONTENT:
                return self.taker.method(payload)
            self._method = payload
            return True
        if self._method is None:  # the answer to Basic.Get, which is aiormq's
            return False
        if kind == FRAME_HEADER:
            self._header = payload
            self._missing = CONTENT.unpack_from(payload)[2]
        elif kind == FRAME_BODY:
            self._pieces.append(payload)
            self._missing -= len(payload)
        if not self._missing:
            self._finish(self._method)
        return True

    def _finish(self, method: bytes) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._method, self._pieces = None, []
        self.taker.content(method, self._header, body)


_Method = TypeVar("_Method", bound=Frame)


def method_of(payload: bytes, method: _Method) -> _Method:
    """Decode the payload of a method frame into an empty `method` of its class; return that."""
    method.unmarshal(payload[len(DELIVER) :])
    return method


def header_of(payload: bytes) -> ContentHeader:
    """Decode the payload of a content header's frame."""
    header = ContentHeader()
    header.unmarshal(payload)
    return header


class Transport(TransportFactory):
    """Opens the TCP or TLS connection for aiormq, with a `FrameReader`."""

    def __init__(self) -> None:
        """`reader` and `outbox` are set once the connection is open."""
        self.reader: FrameReader | None = None
        self.outbox: Outbox | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; `kwargs` are those that aiormq gives to its own factories. Raises `AMQPConnectionError`."""
        loop = asyncio.get_running_loop()
        provider = kwargs.pop("ssl_context_provider")
        context = await provider.get_context() if url.scheme == "amqps" else None
        reader = FrameReader(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.create_connection(lambda: protocol, url.host, url.port, ssl=context, **kwargs)  # type: ignore[arg-type]
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.reader, self.outbox = reader, Outbox(writer)
        return reader, writer
