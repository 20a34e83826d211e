"""A delivery as an AMQP message, and back.

The body is the payload, untouched; `message_id` is the ID of the delivery, `type` its event, and the headers say the
rest. Anyone may put a message into the queue by hand, so reading one takes whatever it finds.
"""

import struct
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache

from aiormq import spec
from aiormq.abc import DeliveredMessage
from pamqp import encode
from pamqp.common import FieldTable, FieldValue

from shared.broker import DeadLetter
from shared.delivery import Delivery

REASON_HEADER = "x-promgithub-reason"
"""Why a dead letter was refused: one of a small set of words."""

DETAIL_HEADER = "x-promgithub-detail"
"""What exactly was wrong with a dead letter, in at most `DETAIL_LENGTH` characters."""

DEAD_AT_HEADER = "x-promgithub-dead-at"
"""When a dead letter was refused, in milliseconds of Unix time."""

DETAIL_LENGTH = 1000

_PERSISTENT = 2
_LATEST = 253_402_300_799_999  # the end of the year 9999, in milliseconds
_PLACE = "\N{NULL}" * 36
_INTEGER = struct.Struct(">q")

# These would send a copy of a dead letter elsewhere too (https://www.rabbitmq.com/docs/sender-selected).
_SENDER_SELECTED = ("CC", "BCC")

# How often a message of a quorum queue came back. RabbitMQ 4 leaves what a publisher says of it as it is.
_COUNTS = ("x-delivery-count", "x-acquired-count")


class DeliveryProperties:
    """The properties of the message that carries a delivery."""

    def __init__(self, delivery: Delivery) -> None:
        """Keep the delivery until its properties are asked for."""
        self._delivery = delivery
        self.message_id = delivery.id

    def marshal(self) -> bytes:
        """Return them in the form that goes over the wire. Raises `ValueError` if the ID or the event is too long."""
        one = self._delivery
        start, before_id, before_time, end = _template(
            one.event, one.hook_id, one.target_type, one.target_id, one.source
        )
        received, received_seconds = _INTEGER.pack(one.received_at), _INTEGER.pack(one.received_at // 1000)
        return b"".join((start, received, before_id, _short(one.id), before_time, received_seconds, end))


@lru_cache(maxsize=1024)
def _template(
    event: str, hook_id: str | None, target_type: str | None, target_id: str | None, source: str | None
) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the marshalled properties of a delivery, cut where its time, its ID and its time in seconds belong.

    Few webhooks send nearly all deliveries, and to marshal each anew would be a large part of what a publish costs.
    """
    said = {"hook_id": hook_id, "target_type": target_type, "target_id": target_id, "source": source}
    headers: FieldTable = {"received_at": _LATEST}
    headers |= {name: value for name, value in said.items() if value is not None}
    properties = spec.Basic.Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=_PERSISTENT,
        message_id=_PLACE,
        timestamp=datetime.fromtimestamp(_LATEST // 1000, tz=UTC),
        message_type=event,
    )
    start, rest = properties.marshal().split(_INTEGER.pack(_LATEST), 1)
    before_id, rest = rest.split(_short(_PLACE), 1)
    before_time, end = rest.split(_INTEGER.pack(_LATEST // 1000), 1)
    return start, before_id, before_time, end


def _short(text: str) -> bytes:
    """Return a short string (AMQP 0-9-1 section 4.2.5.3): its length in one byte, and its bytes."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


def to_delivery(message: DeliveredMessage, now: int) -> Delivery:
    """Return the delivery in a message; `now` (Unix milliseconds) stands in for a time that the message lacks."""
    properties = message.header.properties
    headers = properties.headers or {}
    return Delivery(
        id=properties.message_id or "",
        event=properties.message_type or "",
        body=message.body,
        received_at=_received_at(headers.get("received_at"), properties.timestamp, now),
        hook_id=_text(headers.get("hook_id")),
        target_type=_text(headers.get("target_type")),
        target_id=_text(headers.get("target_id")),
        source=_text(headers.get("source")),
    )


def to_dead_letter(properties: spec.Basic.Properties, reason: str, detail: str, now: int) -> spec.Basic.Properties:
    """Return the properties of the copy of a message among the dead letters; `now` is in Unix milliseconds.

    All are kept but what RabbitMQ said of the original alone, and those that it would act upon: an expiry, a sender
    that would have to be us, further routes.
    """
    letter = copy(properties)
    headers = {name: _encodable(value) for name, value in (properties.headers or {}).items()}
    for name in (*_SENDER_SELECTED, *_COUNTS):
        headers.pop(name, None)
    headers |= {REASON_HEADER: reason, DETAIL_HEADER: detail[:DETAIL_LENGTH], DEAD_AT_HEADER: now}
    letter.headers = headers
    letter.delivery_mode = _PERSISTENT
    letter.expiration = None
    letter.user_id = None
    return letter


def from_dead_letter(message: DeliveredMessage, now: int) -> DeadLetter:
    """Return the dead letter in a message, which is ours, or RabbitMQ's own, or was put there by hand.

    RabbitMQ says why in headers of its own (https://www.rabbitmq.com/docs/dlx#effects).
    """
    headers = message.header.properties.headers or {}
    death = _last_death(headers)
    queue = _text(death.get("queue")) or "a queue"
    return DeadLetter(
        number=message.delivery_tag or 0,
        delivery=to_delivery(message, now),
        reason=_text(headers.get(REASON_HEADER)) or _text(death.get("reason")) or "unknown",
        detail=_text(headers.get(DETAIL_HEADER)) or (f"set apart by RabbitMQ from {queue}" if death else ""),
        dead_at=_dead_at(headers.get(DEAD_AT_HEADER), death.get("time")),
    )


def times_returned(message: DeliveredMessage) -> int:
    """Return how often a message of a quorum queue was taken and given back, as far as it counts for a limit."""
    headers = message.header.properties.headers or {}
    counts = (headers.get(name) for name in _COUNTS)
    return max((count for count in counts if isinstance(count, int)), default=0)


def _last_death(headers: FieldTable) -> FieldTable:
    """Return what RabbitMQ says about the latest time that it made a dead letter of a message; empty if it did not."""
    deaths = headers.get("x-death")
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    return latest if isinstance(latest, dict) else {}


def _dead_at(ours: FieldValue, theirs: FieldValue) -> int | None:
    if isinstance(ours, int) and not isinstance(ours, bool) and 0 < ours <= _LATEST:
        return ours
    return int(theirs.timestamp() * 1000) if isinstance(theirs, datetime) else None


def _received_at(header: FieldValue, timestamp: datetime | None, now: int) -> int:
    if isinstance(header, int) and not isinstance(header, bool) and 0 < header <= _LATEST:
        return header
    return int(timestamp.timestamp() * 1000) if timestamp is not None else now


def _text(header: FieldValue) -> str | None:
    """Return the text of a header; a number counts, as hooks and targets are numbered."""
    if isinstance(header, int) and not isinstance(header, bool):
        return str(header)
    return header if isinstance(header, str) else None


def _encodable(value: FieldValue) -> FieldValue:
    """Return a header's value, or its text if it is one of those that pamqp reads but cannot write."""
    try:
        encode.encode_table_value(value)
    except (TypeError, ValueError, OverflowError, struct.error):
        return str(value)
    return value
