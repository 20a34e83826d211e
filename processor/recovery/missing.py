"""Finds the missing deliveries in GitHub's list of deliveries. Pure.

The list: https://docs.github.com/en/rest/repos/webhooks#list-deliveries-for-a-repository-webhook. An item is an
*attempt*; all attempts to deliver one event have its GUID. GitHub's own scripts use the same procedure
(https://docs.github.com/en/webhooks/using-webhooks/automatically-redelivering-failed-deliveries-for-a-repository-webhook).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from processor.counting.events import COUNTED
from processor.counting.payloads import Timestamp, milliseconds
from shared.delivery import RECOVERED, Delivery, parse_guid
from shared.errors import PoisonError
from shared.hosts import parse_host

MOST_EVENTS = 100_000
"""Maximum number of events in one run. The next run finds the others, because these have then been counted."""


class Attempt(msgspec.Struct, frozen=True):
    """An item of GitHub's list. Its `id` identifies the attempt, not the event."""

    id: int
    guid: str
    event: str
    delivered_at: Timestamp = None
    status: str | None = None
    status_code: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the receiver answered with success."""
        return self.status == "OK" or 200 <= (self.status_code or 0) < 300


@dataclass(frozen=True, slots=True)
class Failure:
    """An event whose attempts have all failed; `number` and `at` (Unix ms) are those of the latest attempt."""

    number: int
    guid: UUID
    event: str
    at: int


@dataclass(slots=True)
class Listing:
    """The events of a hook since a time (`since`, Unix ms), collected page by page."""

    since: int
    attempts: int = 0
    newest: int = 0
    cut_short: bool = False
    failures: dict[UUID, Failure] = field(default_factory=dict)
    succeeded: set[UUID] = field(default_factory=set)

    def add(self, page: Sequence[Attempt], known: Collection[UUID]) -> bool:
        """Add a page, newest attempt first; return whether the next page may have attempts after `since`.

        `known` has the events on the page that have been counted.
        """
        for attempt in page:
            at = milliseconds(attempt.delivered_at) or 0
            if at < self.since:
                return False
            self.newest = max(self.newest, at)
            self._add(attempt, at, known)
        self.cut_short = len(self.failures) + len(self.succeeded) >= MOST_EVENTS
        return bool(page) and not self.cut_short

    def missing(self) -> list[Failure]:
        """Return the failed events of counted kinds, the oldest first, because GitHub deletes those first."""
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
        elif guid not in self.failures:  # the first one in the list is the latest
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


def recovered(
    detail: Mapping[str, Any], hook_id: str | None, target_type: str, now: int, *, host: str | None
) -> Delivery:
    """Return the delivery in the REST API object of an attempt, as received at `now` (Unix ms).

    `host` is the result of `shared.hosts.enterprise_host` for the API. It is used if the object does not contain the
    header. GitHub sent the object over TLS, so no signature is checked. Raises `PoisonError`.
    """
    try:
        told = msgspec.convert(detail, _Detail)
        body = msgspec.json.encode(told.request.payload)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        # Python's JSON decoder accepts what msgspec cannot encode, such as unpaired surrogates.
        raise PoisonError("undecodable", f"GitHub's object of a delivery: {type(error).__name__}") from error
    headers = {name.lower(): str(value) for name, value in told.request.headers.items() if value is not None}
    return Delivery(
        told.guid,
        told.event,
        body,
        now,
        headers.get("x-github-hook-id", hook_id),
        target_type,
        headers.get("x-github-hook-installation-target-id"),
        RECOVERED,
        parse_host(headers.get("x-github-enterprise-host", "")) or host,
    )
