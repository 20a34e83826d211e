"""Recovery of failed deliveries: finds them in GitHub's lists and publishes them to the broker."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from processor.recovery.access import RecoveryAccess
from processor.recovery.exclusive import check_lease
from processor.recovery.hooks import Hook
from processor.recovery.missing import Failure, Listing, attempts, guids, recovered
from processor.recovery.outages import OutageTolerance
from processor.store import recovery
from shared.brokers.interface import Publisher
from shared.delivery import Delivery
from shared.errors import (
    BrokerUnavailable,
    GitHubError,
    GitHubUnavailable,
    MessageTooLarge,
    NotOnGitHub,
    PoisonError,
    QueueFull,
)
from shared.logs import get_logger
from shared.waiting import pauses

OVERLAP = timedelta(minutes=10)
"""Each list is read from this long before the cursor: GitHub may list a delivery some time after it was sent."""

PATIENCE = 60.0
"""How long to wait for a full queue or an unavailable broker, in seconds."""

_log = get_logger(__name__)


@dataclass(slots=True)
class HookOutcome:
    """The result for a hook since its cursor.

    `failed` is the number of failed attempts. `missing` has the events that were not counted before. `lost` is the
    number of those that cannot be recovered.
    """

    hook: str
    failed: int = 0
    missing: list[Failure] = field(default_factory=list)
    recovered: int = 0
    lost: int = 0
    error: GitHubError | None = None


class Redelivery:
    """Recovers the failed deliveries of hooks."""

    def __init__(self, access: RecoveryAccess, *, dry_run: bool = False, via_github: bool = False) -> None:
        """With `dry_run`, nothing is recovered.

        With `via_github`, GitHub is asked to redeliver, instead of fetching the payload.
        """
        self._access = access
        self._dry_run = dry_run
        self._via_github = via_github

    async def run(self, hooks: Sequence[Hook]) -> list[HookOutcome]:
        """Recover the missing deliveries of each hook. A `GitHubError` ends one hook, and is part of its outcome.

        Raises `BrokerError`, `BusyError` or `StoreError`. What was done until then stays done.
        """
        return [await self._hook(hook) for hook in hooks]

    async def _hook(self, hook: Hook) -> HookOutcome:
        outcome = HookOutcome(hook.name)
        listing = OutageTolerance()
        try:
            with listing.isolated(hook=hook.name):
                await self._recover(hook, outcome)
            listing.raise_last()
        except GitHubError as error:
            outcome.error = error
        return outcome

    async def _recover(self, hook: Hook, outcome: HookOutcome) -> None:
        async with self._access.store.connection() as connection:
            cursor = await recovery.cursor(connection, hook.name)
        listing = Listing(0 if cursor is None else cursor - int(OVERLAP.total_seconds() * 1000))
        await self._list(hook, listing)
        outcome.failed = listing.attempts
        outcome.missing = listing.missing()
        if self._dry_run:
            return
        outages = OutageTolerance()
        for failure in outcome.missing:
            check_lease(self._access.lease)
            with outages.tolerated(), outages.isolated(hook=hook.name, delivery_id=str(failure.guid)):
                await self._one(hook, failure, outcome)
        outages.raise_last()
        if listing.newest and not listing.cut_short:
            async with self._access.store.connection() as connection:
                # A time in the future would hide the failures until then.
                until = min(listing.newest, await recovery.now(connection))
                await recovery.move_cursor(connection, hook.name, until)

    async def _list(self, hook: Hook, listing: Listing) -> None:
        request = hook.failures()
        while True:
            check_lease(self._access.lease)
            page, more = await self._access.github.page(request)
            try:
                listed = attempts(page)
            except msgspec.ValidationError as error:
                raise GitHubUnavailable(f"{request.path}: the answer is not a list of deliveries ({error})") from error
            async with self._access.store.connection() as connection:
                known = await recovery.known(connection, guids(listed))
            if not listing.add(listed, known) or more is None:
                return
            request = hook.page(more)

    async def _one(self, hook: Hook, failure: Failure, outcome: HookOutcome) -> None:
        try:
            if self._via_github:
                await self._access.github.post(hook.attempt(failure.number))
            else:
                detail = await self._access.github.get(hook.delivery(failure.number))
                now = time.time_ns() // 1_000_000
                await self._publish(recovered(detail, hook.hook_id, hook.target, now, host=self._access.host))
        except (NotOnGitHub, MessageTooLarge, PoisonError) as error:
            outcome.lost += 1
            _log.warning("a delivery cannot be recovered", delivery_id=str(failure.guid), error=str(error))
        else:
            outcome.recovered += 1

    async def _publish(self, delivery: Delivery) -> None:
        await publish(self._access.publisher, delivery)


async def publish(publisher: Publisher, delivery: Delivery, clock: Callable[[], float] = time.monotonic) -> None:
    """Publish, and retry for `PATIENCE` seconds if the queue is full or the broker is unavailable.

    Raises the same errors as `Publisher.publish`.
    """
    give_up_at = clock() + PATIENCE
    for pause in pauses(0.1, 5.0):
        try:
            await publisher.publish(delivery)
        except (QueueFull, BrokerUnavailable):
            if clock() + pause > give_up_at:
                raise
            await asyncio.sleep(pause)
        else:
            return
