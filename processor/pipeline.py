"""Batches from the broker, each counted in one transaction, then acknowledged.

What can go wrong, and what follows: the database fails (retry the same batch until it works; nothing is acknowledged,
so prefetch bounds what waits), a delivery cannot be understood (it becomes a dead letter), or the database refuses
something in a batch (the batch is split until the culprit stands alone, and becomes a dead letter).
"""

import asyncio
import time
from collections import Counter as Tallied
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from prometheus_client import Counter

from processor.events import Fact, JobFact, RunFact, guid, interpret
from processor.fold import executions, fold
from processor.metrics import WorkerMetrics
from processor.series import BranchPolicy
from processor.store import Store
from processor.store.engine import cause, describe, is_failure
from shared.broker import Batch, Consumer
from shared.delivery import RECONCILED, Delivery
from shared.errors import BrokerError, PoisonError
from shared.github import event_label
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

FIRST_PAUSE = 0.1
"""Seconds before the first retry, at most."""

LONGEST_PAUSE = 10.0
"""Seconds that a pause never exceeds."""

HOLD_SECONDS = 600.0
"""Seconds that a batch is held while it cannot be committed. RabbitMQ closes a channel on which nothing was acked for
30 minutes, again and again, and counts that against the delivery limit: an outage of a night would bury deliveries."""

TARGETS = frozenset(["repository", "organization", "integration"])
"""What GitHub calls the owners of hooks, that of an App last."""

_log = get_logger(__name__)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Understood:
    """A delivery, its GUID, and what it tells (None: an event that is not counted)."""

    delivery: Delivery
    guid: UUID
    fact: Fact | None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction did: the new deliveries, the duplicates, and how many series of which metric had no room."""

    new: Sequence[Understood]
    duplicates: Sequence[Understood]
    overflows: Mapping[str, int]


class Stopped(Exception):  # noqa: N818 - not an error
    """The worker has to stop before a retry could succeed; what it holds goes back to the queue."""


class Away(Exception):  # noqa: N818
    """What a worker needs is away for so long that it must not hold deliveries any longer."""


class Pipeline:
    """Takes batches until told to stop. One instance serves all workers of a process."""

    def __init__(
        self,
        store: Store,
        branches: BranchPolicy,
        metrics: WorkerMetrics,
        stop: asyncio.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stop`, once set, ends retries; `clock` gives Unix seconds."""
        self._store = store
        self._branches = branches
        self._metrics = metrics
        self._stop = stop
        self._clock = clock
        self._received: dict[str, float] = {}

    async def work(self, consumer: Consumer, size: int, linger: float) -> bool:
        """Process batches of at most `size`, none waiting over `linger` seconds, until the consumer is stopped.

        Return whether it ended so; False if the database or the broker was away for too long to hold what is held.
        """
        self._metrics.workers += 1
        try:
            async for batch in consumer.batches(size, linger):
                await self.process(batch)
        except Stopped:
            _log.warning("stopped while the database or the broker was away; what was held goes back to the queue")
        except Away:
            _log.warning("away for too long; what was held goes back to the queue")
            return False
        finally:
            self._metrics.workers -= 1
        return True

    async def process(self, batch: Batch) -> None:
        """Count a batch, dead-letter what cannot be counted, and acknowledge it."""
        began = time.perf_counter()
        self._metrics.batch_size.observe(len(batch.deliveries))
        with self._metrics.holding(min(delivery.received_at for delivery in batch.deliveries) / 1000):
            await self._process(batch)
        self._metrics.duration.observe(time.perf_counter() - began)

    async def _process(self, batch: Batch) -> None:
        understood: list[Understood] = []
        for delivery in batch.deliveries:
            try:
                understood.append(Understood(delivery, guid(delivery), interpret(delivery, self._branches)))
            except PoisonError as poison:
                self._metrics.failures.labels(event_label(delivery.event)).inc()
                await self._dead_letter(batch, delivery, poison)
        await self._settle(batch, understood)
        await batch.ack()

    async def _settle(self, batch: Batch, group: Sequence[Understood]) -> None:
        """Commit a group; if something in it is refused, find out what, by halves."""
        if not group:
            return
        try:
            committed = await self._retried(lambda: self._commit(group))
        except PoisonError as poison:
            if len(group) == 1:
                await self._dead_letter(batch, group[0].delivery, poison)
                return
            middle = len(group) // 2
            await self._settle(batch, group[:middle])
            await self._settle(batch, group[middle:])
        else:
            self._record(committed)

    async def _commit(self, group: Sequence[Understood]) -> Committed:
        """Count a group in one transaction. Raises `PoisonError` if something in it can never be counted."""
        try:
            async with self._store.batch(int(self._clock() * 1000)) as transaction:
                fresh = await transaction.claim({one.guid for one in group})
                new, duplicates = _split(group, fresh)
                self._count(self._metrics.duplicates_seen, duplicates)
                facts = [one.fact for one in new if one.fact is not None]
                runs = await transaction.load_runs((f.run_id, f.attempt) for f in facts if isinstance(f, RunFact))
                jobs = await transaction.load_jobs(f.job_id for f in facts if isinstance(f, JobFact))
                owners = await transaction.claim_executions(executions(facts))
                outcome = fold(runs, jobs, owners, facts)
                await transaction.save_runs(outcome.runs)
                await transaction.save_jobs(outcome.jobs)
                overflows = await transaction.add(outcome.tally)
        except Exception as error:
            self._count(self._metrics.failures, group)
            if is_failure(error):
                raise
            # Whatever else goes wrong goes wrong again with the same deliveries: a refusal, or a bug of ours.
            raise PoisonError("refused", describe(error)) from error
        return Committed(new, duplicates, overflows)

    async def _retried(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something until neither the database nor the broker fails.

        Raises `Stopped` or `Away` rather than retry for ever.
        """
        waits = pauses(FIRST_PAUSE, LONGEST_PAUSE)
        give_up_at = time.monotonic() + HOLD_SECONDS
        while True:
            try:
                return await action()
            except Exception as error:
                if not (is_failure(error) or isinstance(error, BrokerError)):
                    raise
                self._metrics.retries.labels("broker" if isinstance(error, BrokerError) else cause(error)).inc()
                pause = next(waits)
                if time.monotonic() + pause > give_up_at:
                    raise Away from error
                _log.warning("will try again", pause_seconds=round(pause, 1), error=describe(error))
                if await is_set_within(self._stop, pause):
                    raise Stopped from error

    async def _dead_letter(self, batch: Batch, delivery: Delivery, poison: PoisonError) -> None:
        await self._retried(lambda: batch.dead_letter(delivery, poison.reason, poison.detail))
        self._metrics.dropped.labels(event_label(delivery.event), poison.reason).inc()
        _log.error(
            "put into the dead-letter queue",
            delivery_id=delivery.id,
            event_type=delivery.event,
            reason=poison.reason,
            detail=poison.detail,
        )

    def _record(self, committed: Committed) -> None:
        now = self._clock()
        self._count(self._metrics.processed, committed.new)
        self._count(self._metrics.duplicates_dropped, committed.duplicates)
        for metric, times in committed.overflows.items():
            self._metrics.overflow.labels(metric).inc(times)
        for one in committed.new:
            received = one.delivery.received_at / 1000
            self._metrics.lag.observe(max(0.0, now - received))
            if one.delivery.source is None:
                self._newest(event_label(one.delivery.event), received)
            else:
                self._late(one.delivery)
            _log.debug("counted", delivery_id=one.delivery.id)
        for one in committed.duplicates:
            _log.debug("dropped as a duplicate", delivery_id=one.delivery.id)

    def _late(self, delivery: Delivery) -> None:
        """Count a delivery that did not come through the webhook."""
        event = event_label(delivery.event)
        if delivery.source == RECONCILED:
            self._metrics.corrected.labels(event.removeprefix("workflow_"), "api").inc()
        else:
            target = delivery.target_type if delivery.target_type in TARGETS else "other"
            self._metrics.recovered.labels(event, target).inc()

    def _newest(self, event: str, received: float) -> None:
        if received > self._received.get(event, 0.0):
            self._received[event] = received
            self._metrics.last_event.labels(event).set(received)

    def _count(self, counter: Counter, group: Iterable[Understood]) -> None:
        for event, times in Tallied(event_label(one.delivery.event) for one in group).items():
            counter.labels(event).inc(times)


def _split(group: Sequence[Understood], fresh: set[UUID]) -> tuple[list[Understood], list[Understood]]:
    """Split a group into the first delivery of each new ID, and duplicates."""
    unseen = set(fresh)
    new: list[Understood] = []
    duplicates: list[Understood] = []
    for one in group:
        (new if one.guid in unseen else duplicates).append(one)
        unseen.discard(one.guid)
    return new, duplicates
