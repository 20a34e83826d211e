"""Failed deliveries are found in GitHub's lists and counted after all."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from processor.lease import Lease
from processor.recovery.client import GitHub
from processor.recovery.hooks import Hook
from processor.recovery.missing import Failure, Listing, attempts, guids, recovered
from processor.recovery.setbacks import Setbacks
from processor.recovery.turn import check
from processor.store import Store, recovery
from shared.broker import Publisher
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, GitHubError, GitHubUnavailable, MessageTooLarge, NotOnGitHub, QueueFull
from shared.logs import get_logger
from shared.waiting import pauses

OVERLAP = timedelta(minutes=10)
"""How far before the cursor a list is read again: what is delivered at the same time is not listed at the same time."""

PATIENCE = 60.0
"""Seconds that a full queue or an absent broker is waited for."""

_log = get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of the failed deliveries of a hook since its cursor; `missing` were not counted yet."""

    hook: str
    failed: int = 0
    missing: list[Failure] = field(default_factory=list)
    recovered: int = 0
    lost: int = 0
    error: GitHubError | None = None


class Redeliver:
    """Goes through the lists of hooks. Holds `lease` meanwhile."""

    def __init__(
        self,
        github: GitHub,
        store: Store,
        publisher: Publisher,
        lease: Lease,
        *,
        dry_run: bool = False,
        via_github: bool = False,
    ) -> None:
        """`dry_run`: only look; `via_github`: ask GitHub to deliver once more, rather than fetch the payload."""
        self._github = github
        self._store = store
        self._publisher = publisher
        self._lease = lease
        self._dry_run = dry_run
        self._via_github = via_github

    async def run(self, hooks: Sequence[Hook]) -> list[Outcome]:
        """Recover what each hook missed; what GitHub does not let us do for one is noted, and the others follow.

        Raises `BrokerError`, `BusyError`, or what `engine.is_failure` recognises. What was done until then stays done.
        """
        return [await self._hook(hook) for hook in hooks]

    async def _hook(self, hook: Hook) -> Outcome:
        outcome = Outcome(hook.name)
        try:
            await self._recover(hook, outcome)
        except GitHubError as error:
            outcome.error = error
        return outcome

    async def _recover(self, hook: Hook, outcome: Outcome) -> None:
        async with self._store.connection() as connection:
            cursor = await recovery.cursor(connection, hook.name)
        listing = Listing(0 if cursor is None else cursor - int(OVERLAP.total_seconds() * 1000))
        await self._list(hook, listing)
        outcome.failed = listing.attempts
        outcome.missing = listing.missing()
        if self._dry_run:
            return
        setbacks = Setbacks()
        for failure in outcome.missing:
            check(self._lease)
            with setbacks.tolerated():
                await self._one(hook, failure, outcome)
        setbacks.raise_last()
        if listing.newest and not listing.cut_short:
            async with self._store.connection() as connection:
                await recovery.move_cursor(connection, hook.name, listing.newest)

    async def _list(self, hook: Hook, listing: Listing) -> None:
        request = hook.failures()
        while True:
            check(self._lease)
            page, more = await self._github.page(request)
            try:
                listed = attempts(page)
            except msgspec.ValidationError as error:
                raise GitHubUnavailable(f"{request.path}: this is no list of deliveries ({error})") from error
            async with self._store.connection() as connection:
                known = await recovery.known(connection, guids(listed))
            if not listing.add(listed, known) or more is None:
                return
            request = hook.page(more)

    async def _one(self, hook: Hook, failure: Failure, outcome: Outcome) -> None:
        try:
            if self._via_github:
                await self._github.post(hook.attempt(failure.number))
            else:
                detail = await self._github.get(hook.delivery(failure.number))
                await self._publish(recovered(detail, hook.hook_id, hook.target, time.time_ns() // 1_000_000))
        except (NotOnGitHub, MessageTooLarge, msgspec.ValidationError) as error:
            outcome.lost += 1
            _log.warning("a delivery cannot be recovered", delivery_id=str(failure.guid), error=str(error))
        else:
            outcome.recovered += 1

    async def _publish(self, delivery: Delivery) -> None:
        await publish(self._publisher, delivery)


async def publish(publisher: Publisher, delivery: Delivery, clock: Callable[[], float] = time.monotonic) -> None:
    """Publish, and wait a while for room in the queue or for the broker; raises as `Publisher.publish` does."""
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
