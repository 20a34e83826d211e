"""Publishing with confirms, with little CPU time for each message."""

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import aiormq
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq import ChannelInvalidStateError, spec
from aiormq.abc import DeliveredMessage
from pamqp import frame
from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER

from shared.brokers.rabbitmq.underlay.connections import opened
from shared.brokers.rabbitmq.underlay.frames import CONTENT, FRAME, header_of, method_of
from shared.brokers.rabbitmq.underlay.outbox import Confirmed, Outbox
from shared.brokers.rabbitmq.underlay.properties import properties_of
from shared.waiting import Deadlines

_ACK = bytes((0, 60, 0, 80))
_NACK = bytes((0, 60, 0, 120))
_CONFIRM = struct.Struct(">QB")
"""The delivery tag and the flags of Basic.Ack and Basic.Nack; the lowest one is `multiple`."""


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
    """A channel with publisher confirms. It writes messages and reads confirms by itself; all else is aiormq's.

    The frames of one message are not mixed with those of another. After it is closed, its owner may open it again.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        """`deadlines` limits the time that a confirm may take."""
        self._deadlines = deadlines
        self._session: _Session | None = None

    @property
    def is_open(self) -> bool:
        """Whether it accepts messages."""
        return self._session is not None and not self._session.channel.is_closed

    async def open(self, connection: AbstractConnection, closed: Callable[[], None]) -> None:
        """Open the channel; `closed` is called when it is closed for any reason."""
        own = opened(connection)
        channel = await (await own.channel(publisher_confirms=True)).get_underlay_channel()
        assert isinstance(channel, aiormq.Channel)  # noqa: S101 - the only implementation
        session = self._session = _Session(channel, own.outbox)
        own.frames.attach(channel.number, session)

        def end(closing: "asyncio.Future[object]") -> None:
            own.frames.detach(channel.number, session)
            session.end(closing)
            closed()

        channel.closing.add_done_callback(end)

    async def send(self, envelope: Envelope) -> None:
        """Publish a message and wait for its confirm. No other message with its ID may wait for one.

        Raises `TimeoutError`, `PublishError` for a returned message, `DeliveryError` for a nack, aiormq's error for a
        closed channel, or the error of `Properties.marshal`.
        """
        session = self._session
        if session is None or session.channel.is_closed:
            raise ChannelInvalidStateError("closed")
        confirmed: Confirmed = asyncio.get_running_loop().create_future()
        session.begin(envelope, confirmed)
        self._deadlines.watch(confirmed)
        try:
            await confirmed
        except TimeoutError as error:
            error.__traceback__ = None  # the session keeps the future, and with it all frames, until a late confirm
            raise TimeoutError from None
        finally:
            session.forget(confirmed)


class _Session:
    """A channel from its opening to its end, and the senders that wait for its confirms."""

    def __init__(self, channel: aiormq.Channel, outbox: Outbox) -> None:
        self.channel = channel
        self._outbox = outbox
        self._senders: dict[Confirmed, str | None] = {}  # the ID of each message
        self._last_tag = 0
        self._unconfirmed: OrderedDict[int, Confirmed] = OrderedDict()  # by delivery tag

    def begin(self, envelope: Envelope, confirmed: Confirmed) -> None:
        """Publish a message; `confirmed` is set when RabbitMQ has confirmed it."""
        pieces = _marshalled(envelope, self.channel)
        self._senders[confirmed] = envelope.properties.message_id
        self._outbox.put(confirmed, self._written, pieces)

    def forget(self, confirmed: Confirmed) -> None:
        """Forget a sender that does not wait any more."""
        self._outbox.forget(confirmed)
        self._senders.pop(confirmed, None)

    def content(self, method: bytes, header: bytes, body: bytes) -> None:
        """Fail the sender of a message that RabbitMQ returns, as there is no queue for it. Its confirm follows."""
        message_id = properties_of(header).message_id
        for confirmed in [sender for sender, own in self._senders.items() if own == message_id]:
            if not confirmed.done():
                returned = method_of(method, spec.Basic.Return())
                message = DeliveredMessage(delivery=returned, header=header_of(header), body=body, channel=self.channel)
                confirmed.set_exception(PublishError(message, returned))

    def method(self, payload: bytes) -> bool:
        """Take an ack or a nack: wake the senders of the messages that it names."""
        code = payload[: len(_ACK)]
        if code not in (_ACK, _NACK):
            return False
        tag, multiple = _CONFIRM.unpack_from(payload, len(_ACK))
        if multiple & 1:
            while self._unconfirmed and next(iter(self._unconfirmed)) <= tag:
                self._settle(self._unconfirmed.popitem(last=False)[1], payload)
        elif (confirmed := self._unconfirmed.pop(tag, None)) is not None:
            self._settle(confirmed, payload)
        return True

    def end(self, closing: "asyncio.Future[object]") -> None:
        """Fail all senders with the reason for which the channel was closed."""
        reason: BaseException = ChannelInvalidStateError("closed")
        if not closing.cancelled():
            reason = closing.exception() or reason
        if type(reason) is Exception or isinstance(reason, asyncio.CancelledError):  # aiormq, if a connection is lost
            reason = ConnectionError("the connection was cut")
        for confirmed in self._senders:
            if not confirmed.done():
                confirmed.set_exception(reason)
        self._unconfirmed.clear()

    def _written(self, confirmed: Confirmed) -> None:
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = confirmed

    def _settle(self, confirmed: Confirmed, payload: bytes) -> None:
        if confirmed.done():  # the time was over, the sender was cancelled, or the message was returned
            return
        if payload.startswith(_ACK):
            confirmed.set_result(None)
        else:
            confirmed.set_exception(DeliveryError(None, method_of(payload, spec.Basic.Nack())))


def _marshalled(envelope: Envelope, channel: aiormq.Channel) -> Sequence[bytes]:
    """Return the frames of a message (AMQP 0-9-1 sections 2.3.5 and 4.2.6). A body that fits in one is not copied."""
    number, body, most = channel.number, envelope.body, channel.max_content_size
    properties = envelope.properties.marshal()
    pieces = [
        _method(number, envelope.exchange, envelope.routing_key),
        FRAME.pack(FRAME_HEADER, number, CONTENT.size + len(properties)),
        CONTENT.pack(spec.Basic.frame_id, 0, len(body)),
        properties,
        FRAME_END_CHAR,
    ]
    for start in range(0, len(body), most):
        piece = body[start : start + most]
        pieces += (FRAME.pack(FRAME_BODY, number, len(piece)), piece, FRAME_END_CHAR)
    return pieces


@lru_cache(maxsize=1024)
def _method(channel: int, exchange: str, routing_key: str) -> bytes:
    return frame.marshal(spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True), channel)
