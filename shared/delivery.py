"""One webhook call, as it travels from the receiver through the broker to the processor."""

import re
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


RECOVERED = "recovered"
"""Source of a delivery that the processor fetched from GitHub's list of deliveries, because the webhook call failed."""

RECONCILED = "reconciled"
"""Source of a delivery that reconciliation built from a run or job in GitHub's REST API."""


BACKFILLED = "backfilled"
"""Source of a delivery that a backfill built from an open run or job in GitHub's REST API."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery: the values of GitHub's headers and the unchanged JSON payload.

    `id` is `X-GitHub-Delivery`, a GUID that identifies the *event*: redeliveries and other hooks subscribed to the same
    event have the same GUID (GitHub REST, "hook delivery": `guid`). `received_at` is Unix time in milliseconds.
    `hook_id`, `target_type` and `target_id` identify the webhook; they are None if GitHub did not send them. `source`
    is `RECOVERED`, `RECONCILED` or `BACKFILLED` if the delivery did not come through the webhook. `host` is the host in
    `X-GitHub-Enterprise-Host`, in lower case and without a port. It is None without that header, which only GitHub
    Enterprise Server sends.
    """

    id: str
    event: str
    body: bytes
    received_at: int
    hook_id: str | None = None
    target_type: str | None = None
    target_id: str | None = None
    source: str | None = None
    host: str | None = None


def is_guid(text: str) -> bool:
    """Return whether `text` is a GUID in the form that GitHub documents (8-4-4-4-12 hex digits)."""
    return _GUID.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def parse_guid(text: str) -> UUID | None:
    """Return the GUID that `text` represents, or None if it is not a GUID."""
    return UUID(text) if is_guid(text) else None


def emitted_at(guid: UUID) -> int:
    """Return when GitHub created the event, in units of 100 ns since 1582, or 0 if the GUID has no time stamp.

    GitHub's GUIDs have so far been version 1 UUIDs (RFC 9562 section 5.1), which contain a time stamp. GitHub does not
    promise this. The time stamp is therefore used only to order events that are otherwise equal.
    """
    return guid.time if guid.version == 1 else 0
