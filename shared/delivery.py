"""One webhook call, as it travels from the receiver through the broker to the processor."""

import re
from dataclasses import dataclass
from uuid import UUID

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


RECOVERED = "recovered"
"""The source of a delivery that was fetched from GitHub's list of deliveries, after it could not be handed over."""

RECONCILED = "reconciled"
"""The source of a delivery that was made from what GitHub's API says of a run or job."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery: GitHub's headers and the JSON payload, untouched.

    `id` is `X-GitHub-Delivery`, a GUID that names the *event*: redeliveries and other hooks subscribed to the same
    event carry it too (GitHub REST, "hook delivery": `guid`). `received_at` is Unix time in milliseconds. `hook_id`,
    `target_type` and `target_id` say which webhook sent it, where GitHub says so. `source` is `RECOVERED` or
    `RECONCILED` if it did not come through the webhook.
    """

    id: str
    event: str
    body: bytes
    received_at: int
    hook_id: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    source: str | None = None


def is_guid(text: str) -> bool:
    """Tell whether `text` is a GUID in the form that GitHub documents (8-4-4-4-12 hex digits)."""
    return _GUID.fullmatch(text) is not None


def parse_guid(text: str) -> UUID | None:
    """Return the GUID in `text`, or None unless it is one."""
    return UUID(text) if is_guid(text) else None


def emitted_at(guid: UUID) -> int:
    """Return when GitHub made the event, in units of 100 ns since 1582, or 0 if the GUID does not say.

    GitHub's GUIDs are observed to be version 1 UUIDs (RFC 9562 section 5.1), which carry a time stamp. That is not
    promised, so it serves only to order events that are otherwise equal.
    """
    return guid.time if guid.version == 1 else 0
