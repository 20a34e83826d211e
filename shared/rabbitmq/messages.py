"""A delivery as an AMQP message, and back.

The body is the payload, untouched; `message_id` is the ID of the delivery, `type` its event, and the headers say the
rest. Anyone may put a message into the queue by hand, so reading one takes whatever it finds.
"""

import struct
from copy import copy
from datetime import UTC, datetime

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

# These would send a copy of a dead letter elsewhere too (https://www.rabbitmq.com/docs/sender-selected).
_SENDER_SELECTED = ("CC", "BCC")

# How often a message of a quorum queue came back. RabbitMQ 4 leaves what a publisher says of it as it is.
_COUNTS = ("x-delivery-count", "x-acquired-count")


def to_properties(delivery: Delivery) -> spec.Basic.Properties:
    """Return the properties of the message that carries a delivery."""
    headers: FieldTable = {"received_at": delivery.received_at}
    if delivery.hook_id is not None:
        headers["hook_id"] = delivery.hook_id
    if delivery.target_type is not None:
        headers["target_type"] = delivery.target_type
    if delivery.target_id is not None:
        headers["target_id"] = delivery.target_id
    return spec.Basic.Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=_PERSISTENT,
        message_id=delivery.id,
        timestamp=datetime.fromtimestamp(delivery.received_at / 1000, tz=UTC),
        message_type=delivery.event,
    )


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
