"""Which of the deliveries that GitHub lists are missing here. Pure.

What GitHub lists: https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook. An item is
an *attempt*; the attempts to deliver one event share its GUID. The procedure is that of GitHub's own scripts
(https://docs.github.com/en/webhooks/using-webhooks/automatically-redelivering-failed-deliveries-for-a-repository-webhook).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from processor.events import COUNTED
from processor.payloads import Timestamp, milliseconds
from shared.delivery import RECOVERED, Delivery, parse_guid

MOST = 100_000
"""Events that are gathered at a time; what is left is found the next time, when these have been counted."""


class Attempt(msgspec.Struct, frozen=True):
    """An attempt to deliver, as GitHub lists it; its `id` is not that of the event."""

    id: int
    guid: str
    event: str
    delivered_at: Timestamp = None
    status: str | None = None
    status_code: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return self.status == "OK" or 200 <= (self.status_code or 0) < 300


@dataclass(frozen=True, slots=True)
class Failure:
    """An event that no attempt so far could hand over; `number` is that of the latest attempt, `at` in Unix ms."""

    number: int
    guid: UUID
    event: str
    at: int


@dataclass(slots=True)
class Listing:
    """What a hook's list says of the events after some moment, gathered page by page."""

    since: int
    attempts: int = 0
    newest: int = 0
    cut_short: bool = False
    failures: dict[UUID, Failure] = field(default_factory=dict)
    succeeded: set[UUID] = field(default_factory=set)

    def add(self, page: Sequence[Attempt], known: Collection[UUID]) -> bool:
        """Add a page, the newest first; return whether what is on the next one can still be after that moment.

        `known` are the events on the page that have been counted.
        """
        for attempt in page:
            at = milliseconds(attempt.delivered_at) or 0
            if at < self.since:
                return False
            self.newest = max(self.newest, at)
            self._add(attempt, at, known)
        self.cut_short = len(self.failures) + len(self.succeeded) >= MOST
        return bool(page) and not self.cut_short

    def missing(self) -> list[Failure]:
        """Return the events that failed and count for something here, the oldest first: GitHub soon forgets them."""
        return sorted((one for guid, one in self.failures.items() if guid not in self.succeeded), key=lambda f: f.at)

    def _add(self, attempt: Attempt, at: int, known: Collection[UUID]) -> None:
        guid = parse_guid(attempt.guid)
        if guid is None or attempt.event not in COUNTED:
            return
        self.attempts += not attempt.succeeded
        if guid in known:
            return
        if attempt.succeeded:
            self.succeeded.add(guid)
        elif guid not in self.failures:  # the first to be listed is the latest
            self.failures[guid] = Failure(attempt.id, guid, attempt.event, at)


def attempts(page: Any) -> list[Attempt]:
    """Return the attempts on a decoded page. Raises `msgspec.ValidationError`."""
    return msgspec.convert(page, list[Attempt])


def guids(page: Iterable[Attempt]) -> set[UUID]:
    """Return the GUIDs on a page."""
    return {guid for attempt in page if (guid := parse_guid(attempt.guid)) is not None}


class _Request(msgspec.Struct, frozen=True):
    payload: dict[str, Any]
    headers: dict[str, Any] = {}


class _Detail(msgspec.Struct, frozen=True):
    guid: str
    event: str
    request: _Request


def recovered(detail: Mapping[str, Any], hook_id: str | None, target_type: str, now: int) -> Delivery:
    """Return the delivery in GitHub's account of an attempt, as received at `now` (Unix ms).

    It came from GitHub itself over TLS, so there is no signature to check. Raises `msgspec.ValidationError`.
    """
    told = msgspec.convert(detail, _Detail)
    headers = {name.lower(): str(value) for name, value in told.request.headers.items()}
    return Delivery(
        told.guid,
        told.event,
        msgspec.json.encode(told.request.payload),
        now,
        headers.get("x-github-hook-id", hook_id),
        target_type,
        headers.get("x-github-hook-installation-target-id"),
        RECOVERED,
    )
