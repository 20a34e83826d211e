"""The properties of any message are decoded as pamqp decodes them, in their usual form too."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aio_pika import DeliveryMode, Message
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands, decode
from pamqp.header import ContentHeader

from shared.brokers.rabbitmq.messages import DeliveryProperties
from shared.brokers.rabbitmq.underlay import properties
from shared.brokers.rabbitmq.underlay.frames import header_of
from shared.brokers.rabbitmq.underlay.properties import MessageProperties, properties_of, tolerate_any_properties
from shared.delivery import Delivery

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATE = datetime(2107, 1, 1, tzinfo=UTC)
"""pamqp decodes a time stamp after February 2106 as milliseconds."""


@pytest.fixture(scope="module", autouse=True)
def tolerant() -> Iterator[None]:
    """Let pamqp decode as a broker lets it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "METHODS", dict(decode.METHODS))
        tolerate_any_properties()
        yield


def header(marshalled: bytes, size: int = 2) -> bytes:
    """Return the payload of a content header."""
    return ContentHeader(0, size).marshal()[:12] + marshalled


def by_pamqp(payload: bytes) -> MessageProperties:
    found = header_of(payload).properties
    return MessageProperties(found.message_id, found.message_type, found.timestamp, found.headers or {})


def result(decoded: Callable[[bytes], MessageProperties], payload: bytes) -> str:
    """Return the result as text, in which NaN is equal to itself, or the error."""
    try:
        return repr(decoded(payload))
    except Exception as error:  # noqa: BLE001 - any error of pamqp
        return type(error).__name__


SHORT = st.text(max_size=60)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
INTEGERS = st.integers(-(2**63), 2**63 - 1)
PLAIN = (
    SHORT | INTEGERS | st.booleans() | st.floats(width=32) | st.binary(max_size=20).map(bytearray) | MOMENTS | st.none()
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3), max_leaves=6
)
HEADERS = st.dictionaries(SHORT, VALUES, max_size=5)
FIELDS = {
    "content_type": SHORT,
    "content_encoding": SHORT,
    "delivery_mode": st.sampled_from([1, 2]),
    "priority": st.integers(0, 255),
    "correlation_id": SHORT,
    "reply_to": SHORT,
    "expiration": st.integers(0, 10_000).map(str),
    "message_id": SHORT,
    "timestamp": MOMENTS,
    "message_type": SHORT,
    "user_id": SHORT,
    "app_id": SHORT,
}


@given(headers=st.none() | HEADERS, fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_any_message_is_decoded_as_by_pamqp(headers: dict[str, Any] | None, fields: dict[str, Any]) -> None:
    payload = header(commands.Basic.Properties(headers=headers, **fields).marshal())
    assert result(properties_of, payload) == result(by_pamqp, payload)


def usual(headers: dict[str, object], timestamp: datetime, message_id: str, event: str) -> bytes:
    message = Message(
        b"{}",
        content_type="application/json",
        headers=headers,  # type: ignore[arg-type]
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=0,
        message_id=message_id,
        timestamp=timestamp,
        type=event,
    )
    return header(message.properties.marshal())


USUAL = st.builds(
    usual, HEADERS | st.dictionaries(SHORT, SHORT | INTEGERS, max_size=5), MOMENTS, st.text("a-1", min_size=1), SHORT
)


@given(payload=USUAL)
@example(payload=usual({}, LATE, "id", "push"))
def test_a_message_with_the_properties_of_a_delivery_is_decoded_as_by_pamqp(payload: bytes) -> None:
    assert result(properties_of, payload) == result(by_pamqp, payload)


NUMBERS = st.none() | st.integers(1, 10**12).map(str)


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    name, event = draw(st.uuids()), draw(st.text("abc_", min_size=1, max_size=30))
    said = draw(NUMBERS), draw(st.sampled_from([None, "repository", "organization"])), draw(NUMBERS)
    received_at = draw(st.integers(1, 2**32 * 1000 - 1))
    source, host = draw(st.none() | SHORT), draw(st.none() | SHORT)
    return Delivery(str(name), event, b"{}", received_at, *said, source=source, host=host)


@given(one=deliveries())
def test_the_properties_of_a_delivery_are_decoded_without_pamqp_and_as_by_pamqp(one: Delivery) -> None:
    payload = header(DeliveryProperties(one).marshal())
    expected = by_pamqp(payload)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(properties, "header_of")
        assert properties_of(payload) == expected
    assert (expected.message_id, expected.type) == (one.id, one.event)
    assert expected.headers["received_at"] == one.received_at


@given(
    payload=USUAL | st.builds(lambda one: header(DeliveryProperties(one).marshal()), deliveries()),
    damage=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 1), st.binary(max_size=4)), max_size=3),
    size=st.none() | st.integers(12, 300),
)
@example(payload=usual({"a": "b"}, MOMENT, "id", "push"), damage=[], size=13)
@example(payload=header(DeliveryProperties(Delivery("\xff", "push", b"", 1)).marshal()), damage=[], size=None)
def test_damaged_properties_are_decoded_as_by_pamqp(
    payload: bytes, damage: list[tuple[int, int, bytes]], size: int | None
) -> None:
    for place, removed, added in damage:
        at = max(12, place % len(payload))
        payload = payload[:at] + added + payload[at + max(removed, len(added)) :]
    payload = payload[:size]
    assert result(properties_of, payload) == result(by_pamqp, payload)


@pytest.mark.parametrize("seconds", [2**32 - 1, 2**32, 253_402_300_799, 253_402_300_800, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_time_stamp_of_any_size_is_decoded_as_by_pamqp(seconds: int) -> None:
    before = int(MOMENT.timestamp()).to_bytes(8, "big")
    payload = usual({"a": "b"}, MOMENT, "id", "push").replace(before, seconds.to_bytes(8, "big"))
    assert result(properties_of, payload) == result(by_pamqp, payload)


@pytest.mark.parametrize(
    "damaged",
    [
        {"message_id": b"\xff\xfe"},
        {"type": b"\xff\xfe"},
        {"headers": b"\x01\xffI\x00\x00\x00\x01"},
        {"headers": b"\x01aS\x00\x00\x00\x02\xff\xfe"},
        {"headers": b"\x01aT\x7f\xff\xff\xff\xff\xff\xff\xff"},
        {"timestamp": b"\x7f\xff\xff\xff\xff\xff\xff\xff"},
    ],
    ids=lambda damaged: str(*damaged),
)
def test_properties_that_another_client_made_wrong_raise_no_error(damaged: dict[str, bytes]) -> None:
    parts = {"headers": b"", "message_id": b"id", "timestamp": bytes(8), "type": b"push"} | damaged
    payload = header(
        b"\xb8\xe0\x01j"
        + len(parts["headers"]).to_bytes(4, "big")
        + parts["headers"]
        + b"\x02\x00"
        + bytes((len(parts["message_id"]),))
        + parts["message_id"]
        + parts["timestamp"]
        + bytes((len(parts["type"]),))
        + parts["type"]
    )
    assert properties_of(payload) == by_pamqp(payload)


def test_a_number_that_crosses_the_end_of_the_headers_moves_no_other_property() -> None:
    message_id = b"123\x0d567890123456\0\0\0"  # read four bytes late, these bytes look like properties too
    moment = bytes((0, 0, 0, 0, 1, 7, 1, 1))
    payload = header(b"\xb8\xe0\x01j\0\0\0\x07\x01al\0\0\0\0\x02\x00\x13" + message_id + moment + b"\x04push")
    assert properties_of(payload) == by_pamqp(payload)
    assert (properties_of(payload).message_id, properties_of(payload).type) == (message_id.decode(), "push")
