"""Turns headers and body into a delivery, or raises the refusal. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.outcomes import Refusal, RequestOutcome
from shared.delivery import Delivery, is_guid
from shared.hosts import parse_host

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

MAX_FIELDS = 10
"""Maximum number of fields in a form. GitHub sends one."""

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,99}")
_TOKEN = re.compile(r"[!-~]{1,100}")
_UNQUOTED_AT_ONCE = 64 * 1024


class _Object(msgspec.Struct):
    """Any JSON object. The decoder checks the syntax of its members and skips them."""


_OBJECT = msgspec.json.Decoder(_Object)


def content_type(headers: Mapping[str, str]) -> str:
    """Return the content type, `JSON` or `FORM`. Raises `Refusal` for another one, and for a content coding."""
    coding = headers.get("Content-Encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise Refusal(
            415,
            RequestOutcome.UNSUPPORTED,
            "a Content-Encoding is not accepted: the signature covers the bytes as sent",
        )
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in {JSON, FORM}:
        raise Refusal(415, RequestOutcome.UNSUPPORTED, f"the content type must be {JSON} or {FORM}")
    return kind


def read_delivery(headers: Mapping[str, str], kind: str, body: bytes, received_at: int) -> Delivery:
    """Return the delivery in a request; `headers` must be case-insensitive.

    `kind` is its `content_type`, `received_at` the time of arrival in Unix milliseconds. Raises `Refusal` if the
    request is not a valid delivery (GitHub docs, "Webhook events and payloads": delivery headers).
    """
    delivery_id = headers.get("X-GitHub-Delivery", "")
    if not is_guid(delivery_id):
        raise _bad("X-GitHub-Delivery must be a GUID such as 72d3162e-cc78-11e3-81ab-4c9367dc0958")
    event = headers.get("X-GitHub-Event", "")
    if not _EVENT.fullmatch(event):
        raise _bad("X-GitHub-Event must be the name of an event such as workflow_run")
    host = _enterprise_host(headers.get("X-GitHub-Enterprise-Host"))
    payload = _form_field(body) if kind == FORM else body
    check_payload(payload)
    return Delivery(
        id=delivery_id.lower(),
        event=event,
        body=payload,
        received_at=received_at,
        hook_id=_token(headers.get("X-GitHub-Hook-ID")),
        target_type=_token(headers.get("X-GitHub-Hook-Installation-Target-Type")),
        target_id=_token(headers.get("X-GitHub-Hook-Installation-Target-ID")),
        host=host,
    )


def _enterprise_host(value: str | None) -> str | None:
    """Return the host in the header, or None without the header.

    An invalid value is refused, unlike that of other optional headers: without its host, a run of one GitHub would be
    counted as a run of another GitHub that has the same ID.
    """
    if value is None:
        return None
    host = parse_host(value)
    if host is None:
        raise _bad("X-GitHub-Enterprise-Host must be a host name such as github.example.com")
    return host


def check_payload(payload: bytes) -> None:
    """Raise `Refusal` unless a payload is one JSON object in UTF-8."""
    try:
        # The decoder does not check the encoding of strings that it skips.
        if not payload.isascii():
            payload.decode()
        _OBJECT.decode(payload)
    except UnicodeDecodeError:
        raise _bad("the payload must be UTF-8") from None
    except RecursionError:
        raise _bad("the payload is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise _bad(f"the payload must be one JSON object ({error})") from None


def _form_field(body: bytes) -> bytes:
    """Return the value of the field `payload` (the content type `form` of GitHub's webhooks)."""
    fields = body.split(b"&", MAX_FIELDS)
    values = [field[len(b"payload=") :] for field in fields if field.startswith(b"payload=")]
    if len(fields) > MAX_FIELDS or len(values) != 1:
        raise _bad("the form must have one field payload= that holds the JSON")
    return _unquoted(values[0])


def _unquoted(value: bytes) -> bytes:
    # Piece by piece: `unquote_to_bytes` creates an object for each escape, and a large payload has millions of them.
    pieces = []
    start = 0
    while start < len(value):
        end = start + _UNQUOTED_AT_ONCE
        escape = value.find(b"%", end - 2, end)  # the last two bytes may begin an escape that ends in the next piece
        if escape >= 0:
            end = escape
        pieces.append(unquote_to_bytes(value[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(pieces)


def _token(value: str | None) -> str | None:
    """Return the value of an optional header, or None if it is invalid."""
    return value if value and _TOKEN.fullmatch(value) else None


def _bad(error: str) -> Refusal:
    return Refusal(400, RequestOutcome.BAD_REQUEST, error)
