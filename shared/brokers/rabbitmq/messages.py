"""A delivery as an AMQP message, and back.

The body is the unchanged payload. The property `message_id` is the ID of the delivery, `type` its event. The other
fields are headers: `received_at` always, and those of `_SAID` if the delivery has them. Anyone with access to RabbitMQ
may publish a message to the queue, so `to_delivery` accepts messages with missing or unexpected properties.
"""

import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Protocol

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage, FieldValue, HeadersType

from shared.brokers.interface import DETAIL_LENGTH, DeadLetter
from shared.brokers.rabbitmq.underlay import encodable
from shared.delivery import Delivery

REASON_HEADER = "x-promgithub-reason"
"""Header of a dead letter: the reason, one of a small set of words."""

DETAIL_HEADER = "x-promgithub-detail"
"""Header of a dead letter: a description of the problem, in at most `DETAIL_LENGTH` characters."""

DEAD_AT_HEADER = "x-promgithub-dead-at"
"""Header of a dead letter: the time of dead-lettering in Unix milliseconds."""

_LATEST = 253_402_300_799_999  # the end of the year 9999, in milliseconds
_PLACE = "\N{NULL}" * 36
_INTEGER = struct.Struct(">q")

# Optional headers. They have the names of the fields of `Delivery`, and are absent if the field is None.
_SAID = ("hook_id", "target_type", "target_id", "source", "host")
_said = attrgetter(*_SAID)

# With these headers, RabbitMQ would route the copy to other queues too (https://www.rabbitmq.com/docs/sender-selected).
_SENDER_SELECTED = ("CC", "BCC")

# How often a message of a quorum queue was requeued. RabbitMQ 4 does not overwrite these headers of a publisher.
_COUNTS = ("x-delivery-count", "x-acquired-count")


def unix_milliseconds() -> int:
    """Return the time now."""
    return int(time.time() * 1000)


class DeliveryProperties:
    """The properties of the message that carries a delivery."""

    def __init__(self, delivery: Delivery) -> None:
        """The properties are encoded only when `marshal` is called."""
        self._delivery = delivery
        self.message_id = delivery.id

    def marshal(self) -> bytes:
        """Return the encoded properties. Raises `ValueError` if the ID or the event is too long."""
        one = self._delivery
        start, before_id, before_time, end = _template(one.event, _said(one))
        received, received_seconds = _INTEGER.pack(one.received_at), _INTEGER.pack(one.received_at // 1000)
        return b"".join((start, received, before_id, _short(one.id), before_time, received_seconds, end))


@lru_cache(maxsize=1024)
def _template(event: str, said: tuple[str | None, ...]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the encoded properties of a delivery without its time in ms, its ID and its time in s, as four pieces.

    `said` has the values of the headers `_SAID`. Few webhooks send nearly all deliveries, so the cache is effective.
    Encoding the properties for each message would be a large part of the CPU time of a publish.
    """
    headers: HeadersType = {"received_at": _LATEST}
    headers |= {name: value for name, value in zip(_SAID, said, strict=True) if value is not None}
    message = Message(
        b"",
        content_type="application/json",
        headers=headers,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=_PLACE,
        timestamp=datetime.fromtimestamp(_LATEST // 1000, tz=UTC),
        type=event,
    )
    start, rest = message.properties.marshal().split(_INTEGER.pack(_LATEST), 1)
    before_id, rest = rest.split(_short(_PLACE), 1)
    before_time, end = rest.split(_INTEGER.pack(_LATEST // 1000), 1)
    return start, before_id, before_time, end


def _short(text: str) -> bytes:
    """Return a short string (AMQP 0-9-1 section 4.2.5.3): its length in one byte, and its bytes."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


class ReceivedMessage(Protocol):
    """A message that contains a delivery: an `aio_pika.IncomingMessage` or an `underlay.PushedMessage`."""

    @property
    def body(self) -> bytes:
        """The content."""

    @property
    def message_id(self) -> str | None:
        """The property `message-id`."""

    @property
    def type(self) -> str | None:
        """The property `type`."""

    @property
    def timestamp(self) -> datetime | None:
        """The property `timestamp`."""

    @property
    def headers(self) -> Mapping[str, FieldValue]:
        """The property `headers`; empty if there are none."""


class TakenMessage(ReceivedMessage, Protocol):
    """A received message that can be acked."""

    @property
    def delivery_tag(self) -> int | None:
        """Its number on its channel."""


def to_delivery(message: ReceivedMessage, now: int) -> Delivery:
    """Return the delivery in a message. `now`, in Unix milliseconds, replaces a missing time."""
    headers = message.headers
    return Delivery(
        id=message.message_id or "",
        event=message.type or "",
        body=message.body,
        received_at=received_at(message, now),
        hook_id=_text(headers.get("hook_id")),
        target_type=_text(headers.get("target_type")),
        target_id=_text(headers.get("target_id")),
        source=_text(headers.get("source")),
        host=_text(headers.get("host")),
    )


def received_at(message: ReceivedMessage, now: int) -> int:
    """Return when the receiver received a message, in Unix milliseconds. `now` replaces a missing time."""
    header, timestamp = message.headers.get("received_at"), message.timestamp
    if isinstance(header, int) and not isinstance(header, bool) and 0 < header <= _LATEST:
        return header
    return int(timestamp.timestamp() * 1000) if timestamp is not None else now


def to_dead_letter(message: AbstractIncomingMessage, reason: str, detail: str, now: int) -> Message:
    """Return the copy of a message for the dead-letter queue; `now` is in Unix milliseconds.

    The copy has all properties of the message, with two exceptions: the counts that RabbitMQ added, and the properties
    that change how RabbitMQ handles the copy (expiration, user ID, CC and BCC).
    """
    headers = {name: encodable(value) for name, value in message.headers.items()}
    for name in (*_SENDER_SELECTED, *_COUNTS):
        headers.pop(name, None)
    headers |= {REASON_HEADER: reason, DETAIL_HEADER: detail[:DETAIL_LENGTH], DEAD_AT_HEADER: now}
    return Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=message.priority,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )


def from_dead_letter(message: TakenMessage, now: int) -> DeadLetter:
    """Return the dead letter in a message. promgithub, RabbitMQ or a person may have put it into the queue.

    RabbitMQ describes the reason in its own headers (https://www.rabbitmq.com/docs/dlx#effects).
    """
    headers = message.headers
    death = _last_death(headers)
    queue = _text(death.get("queue")) or "a queue"
    return DeadLetter(
        number=message.delivery_tag or 0,
        delivery=to_delivery(message, now),
        reason=_text(headers.get(REASON_HEADER)) or _text(death.get("reason")) or "unknown",
        detail=_text(headers.get(DETAIL_HEADER)) or (f"dead-lettered by RabbitMQ from {queue}" if death else ""),
        dead_at=_dead_at(headers.get(DEAD_AT_HEADER), death.get("time")),
    )


def times_returned(message: ReceivedMessage) -> int:
    """Return how often a message of a quorum queue was requeued, as counted against a delivery limit."""
    counts = (message.headers.get(name) for name in _COUNTS)
    return max((count for count in counts if isinstance(count, int)), default=0)


def _last_death(headers: Mapping[str, FieldValue]) -> Mapping[str, FieldValue]:
    """Return RabbitMQ's `x-death` entry for the last time that it dead-lettered the message, or an empty table."""
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    return latest if isinstance(latest, dict) else {}


def _dead_at(ours: FieldValue, theirs: FieldValue) -> int | None:
    if isinstance(ours, int) and not isinstance(ours, bool) and 0 < ours <= _LATEST:
        return ours
    return int(theirs.timestamp() * 1000) if isinstance(theirs, datetime) else None


def _text(header: FieldValue) -> str | None:
    """Return a header as text, or None. Numbers are accepted, because the IDs of hooks and targets are numbers."""
    if isinstance(header, int) and not isinstance(header, bool):
        return str(header)
    return header if isinstance(header, str) else None
