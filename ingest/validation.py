"""From headers and body to a delivery, or to the answer that says what is wrong. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec

from shared.delivery import Delivery, parse_guid

MAX_BODY = 25 * 1024 * 1024
"""Bytes of a body that are accepted. GitHub caps payloads at 25 MB (GitHub docs, "Webhook events and payloads")."""

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,99}")


class _Object(msgspec.Struct):
    """Any JSON object: its members are checked and skipped."""


_OBJECT = msgspec.json.Decoder(_Object)


class Invalid(Exception):  # noqa: N818 - the condition is the name
    """A delivery that is not well-formed; the text says what is wrong and what is accepted."""


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers that GitHub sends with a delivery and that it must have."""

    guid: str
    event: str


def parse_headers(headers: Mapping[str, str]) -> Headers:
    """Return the delivery's ID, in lower case, and its event. Raises `Invalid`."""
    guid = parse_guid(headers.get("X-GitHub-Delivery", ""))
    if guid is None:
        raise Invalid("X-GitHub-Delivery is missing or not a GUID such as 72d3162e-cc78-11e3-81ab-4c9367dc0958")
    event = headers.get("X-GitHub-Event", "")
    if not _EVENT.fullmatch(event):
        raise Invalid("X-GitHub-Event is missing or not the name of an event such as workflow_run")
    return Headers(str(guid), event)


def parse_payload(body: bytes, content_type: str) -> bytes:
    """Return the JSON payload in a body, untouched. Raises `Invalid` unless it is one JSON object in UTF-8."""
    payload = _form_field(body) if content_type == FORM else body
    try:
        if not payload.isascii():
            payload.decode()
        _OBJECT.decode(payload)
    except UnicodeDecodeError:
        raise Invalid("the payload is not UTF-8") from None
    except RecursionError:
        raise Invalid("the payload is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"the payload is not a JSON object: {error}") from None
    return payload


def make_delivery(headers: Headers, payload: bytes, sent: Mapping[str, str], received_at: int) -> Delivery:
    """Return the delivery that was received at `received_at` (Unix ms); `sent` are all of its headers."""
    return Delivery(
        id=headers.guid,
        event=headers.event,
        body=payload,
        received_at=received_at,
        hook_id=_bounded(sent.get("X-GitHub-Hook-ID")),
        target_type=_bounded(sent.get("X-GitHub-Hook-Installation-Target-Type")),
        target_id=_bounded(sent.get("X-GitHub-Hook-Installation-Target-ID")),
    )


def _form_field(body: bytes) -> bytes:
    try:
        fields = parse_qs(body.decode(), max_num_fields=10)
    except (UnicodeDecodeError, ValueError):
        raise Invalid("the form cannot be read; one field payload= is accepted") from None
    payloads = fields.get("payload", [])
    if len(payloads) != 1:
        raise Invalid("the form must have one field payload= with the JSON")
    try:
        return payloads[0].encode()
    except UnicodeEncodeError:
        raise Invalid("the payload is not UTF-8") from None


def _bounded(value: str | None) -> str | None:
    return value[:100] if value else None
