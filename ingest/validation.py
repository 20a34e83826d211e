"""From headers and body to a delivery, or to the answer that says what is wrong. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.answers import Outcome, Refusal
from shared.delivery import Delivery, is_guid

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"

MAX_FIELDS = 10
"""Fields that a form may have; GitHub sends one."""

_EVENT = re.compile(r"[a-z][a-z0-9_]{0,99}")
_TOKEN = re.compile(r"[!-~]{1,100}")
_UNQUOTED_AT_ONCE = 64 * 1024


class _Object(msgspec.Struct):
    """Any JSON object: the syntax of its members is checked, and they are skipped."""


_OBJECT = msgspec.json.Decoder(_Object)


def content_type(headers: Mapping[str, str]) -> str:
    """Return the content type, `JSON` or `FORM`. Raises `Refusal` for another, and for a content coding."""
    coding = headers.get("Content-Encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise Refusal(
            415, Outcome.UNSUPPORTED, "a Content-Encoding is not accepted: the signature covers the bytes as sent"
        )
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind not in {JSON, FORM}:
        raise Refusal(415, Outcome.UNSUPPORTED, f"the content type must be {JSON} or {FORM}")
    return kind


def read_delivery(headers: Mapping[str, str], kind: str, body: bytes, received_at: int) -> Delivery:
    """Return the delivery in a request; `headers` are looked up in any case.

    `kind` is its `content_type`, `received_at` when it came, in Unix milliseconds. Raises `Refusal` if it is not
    what GitHub sends (GitHub docs, "Webhook events and payloads": delivery headers).
    """
    delivery_id = headers.get("X-GitHub-Delivery", "")
    if not is_guid(delivery_id):
        raise _bad("X-GitHub-Delivery must be a GUID such as 72d3162e-cc78-11e3-81ab-4c9367dc0958")
    event = headers.get("X-GitHub-Event", "")
    if not _EVENT.fullmatch(event):
        raise _bad("X-GitHub-Event must be the name of an event such as workflow_run")
    payload = _form_field(body) if kind == FORM else body
    _check_object(payload)
    return Delivery(
        id=delivery_id.lower(),
        event=event,
        body=payload,
        received_at=received_at,
        hook_id=_token(headers.get("X-GitHub-Hook-ID")),
        target_type=_token(headers.get("X-GitHub-Hook-Installation-Target-Type")),
        target_id=_token(headers.get("X-GitHub-Hook-Installation-Target-ID")),
    )


def _check_object(payload: bytes) -> None:
    try:
        # The decoder does not look into the strings that it skips.
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
    # Piece by piece: at once, each of the millions of escapes in a large payload would be an object of its own.
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
    """Return a header that is only passed on, unless it is nothing that GitHub sends."""
    return value if value and _TOKEN.fullmatch(value) else None


def _bad(error: str) -> Refusal:
    return Refusal(400, Outcome.BAD_REQUEST, error)
