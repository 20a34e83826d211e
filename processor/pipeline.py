"""Takes batches from the broker, counts each in one transaction, and then acknowledges it.

There are three kinds of failures:

- The database is unavailable. The same batch is retried until it succeeds. It is not acknowledged meanwhile, so the
  prefetch limits how many deliveries wait in the process.
- A delivery cannot be interpreted. It becomes a dead letter.
- The database refuses a batch. The batch is split in halves until the refused delivery is alone; that one becomes a
  dead letter.
"""

import asyncio
import logging
import time
from collections import Counter as Tallied
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from uuid import UUID

from prometheus_client import Counter

from processor.counting.ci_metrics import Report, Tally
from processor.counting.events import Policy, guid, interpret
from processor.counting.fold import fold, news_of
from processor.counting.subjects import Fact
from processor.counting_log import CountingLog
from processor.metrics import TARGETS, WorkerMetrics
from processor.store import Store
from shared.brokers.interface import Batch, Consumer
from shared.delivery import BACKFILLED, RECONCILED, Delivery
from shared.errors import BrokerError, PoisonError, StoreRefused, StoreUnavailable
from shared.github import event_label
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

FIRST_RETRY_PAUSE = 0.1
"""Maximum pause before the first retry, in seconds."""

LONGEST_RETRY_PAUSE = 10.0
"""Maximum pause between retries, in seconds."""

HOLD_SECONDS = 600.0
"""How long a batch is held while it cannot be committed, in seconds. RabbitMQ closes a channel after 30 minutes without
an ack, and counts a redelivery for each message. In a long outage, the deliveries would reach the delivery limit."""

_log = get_logger(__name__)
_stdlib = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class Understood(NamedTuple):
    """A delivery, its GUID, and its interpretation (None: an event that is not counted)."""

    delivery: Delivery
    guid: UUID
    meaning: Fact | Tally | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a transaction.

    New deliveries, duplicates, increments of overflow series by metric, and reports for the log.
    """

    new: Sequence[Understood]
    duplicates: Sequence[Understood]
    overflows: Mapping[str, int]
    reports: Sequence[Report]


class Stopped(Exception):  # noqa: N818 - not an error
    """The worker must stop before a retry has succeeded. Its deliveries return to the queue."""


class Away(Exception):  # noqa: N818
    """The database or the broker has been unavailable for `HOLD_SECONDS`. The worker must release its deliveries."""


class Pipeline:
    """Processes batches until `stop` is set. One instance serves all workers of a process."""

    def __init__(
        self,
        store: Store,
        policy: Policy,
        metrics: WorkerMetrics,
        stop: asyncio.Event,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`stop` ends retries when it is set; `clock` returns Unix seconds."""
        self._store = store
        self._policy = policy
        self._metrics = metrics
        self._stop = stop
        self._clock = clock
        self._received: dict[str, float] = {}
        self._counting_log = CountingLog()

    async def work(self, consumer: Consumer, size: int, linger: float) -> bool:
        """Process batches until the consumer is stopped; `size` and `linger` are those of `Consumer.batches`.

        Returns True at the end, or False if the database or the broker was unavailable for `HOLD_SECONDS`.
        """
        self._metrics.workers += 1
        try:
            async for batch in consumer.batches(size, linger):
                await self.process(batch)
        except Stopped:
            _log.warning("stopped while the database or the broker was unavailable; deliveries return to the queue")
        except Away:
            _log.warning("the database or the broker is unavailable for too long; deliveries return to the queue")
            return False
        finally:
            self._metrics.workers -= 1
        return True

    async def process(self, batch: Batch) -> None:
        """Count a batch, dead-letter the deliveries that cannot be counted, and acknowledge it."""
        began = time.perf_counter()
        self._metrics.batch_size.observe(len(batch.deliveries))
        await self._process(batch)
        self._metrics.duration.observe(time.perf_counter() - began)

    async def _process(self, batch: Batch) -> None:
        understood: list[Understood] = []
        for delivery in batch.deliveries:
            try:
                understood.append(Understood(delivery, guid(delivery), interpret(delivery, self._policy)))
            except PoisonError as poison:
                self._metrics.failures.labels(event_label(delivery.event)).inc()
                await self._dead_letter(batch, delivery, poison)
        await self._settle(batch, understood)
        await batch.ack()

    async def _settle(self, batch: Batch, group: Sequence[Understood]) -> None:
        """Commit a group. If the database refuses it, split it in halves to find the refused delivery."""
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
        """Count a group in one transaction.

        Raises `StoreUnavailable`, and `PoisonError` if something in the group can never be counted.
        """
        try:
            async with self._store.batch() as transaction:
                fresh = await transaction.claim({one.guid for one in group})
                new, duplicates = _split(group, fresh)
                self._count(self._metrics.duplicates_seen, duplicates)
                news = news_of(one.meaning for one in new if isinstance(one.meaning, Fact))
                rows = await transaction.load(news)
                tally = fold(rows, news)
                for one in new:
                    if isinstance(one.meaning, Tally):
                        tally.add(one.meaning)
                overflows = await transaction.write(rows, tally)
        except Exception as error:
            self._count(self._metrics.failures, group)
            if isinstance(error, StoreUnavailable):
                raise
            # Whatever else goes wrong goes wrong again with the same deliveries: a refusal, or a bug of ours.
            detail = str(error) if isinstance(error, StoreRefused) else f"promgithub failed: {type(error).__name__}"
            raise PoisonError("refused", detail) from error
        return Committed(new, duplicates, overflows, tally.reports)

    async def _retried(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Retry an action while the database or the broker fails.

        Raises `Stopped` when `stop` is set, or `Away` after `HOLD_SECONDS`.
        """
        waits = pauses(FIRST_RETRY_PAUSE, LONGEST_RETRY_PAUSE)
        give_up_at = time.monotonic() + HOLD_SECONDS
        said = ""
        while True:
            try:
                return await action()
            except (BrokerError, StoreUnavailable) as error:
                self._metrics.retries.labels("broker" if isinstance(error, BrokerError) else error.cause).inc()
                pause = next(waits)
                if time.monotonic() + pause > give_up_at:
                    raise Away from error
                said = self._say_failed(error, said)
                if await is_set_within(self._stop, pause):
                    raise Stopped from error

    def _say_failed(self, error: BrokerError | StoreUnavailable, said: str) -> str:
        """Log a failure, unless it is the last one that was logged (`said`); return the text that was logged."""
        if isinstance(error, StoreUnavailable) and error.cause == "connection":
            self._store.outage.notice(str(error))
        elif str(error) != said:
            _log.warning("transaction or publish failed, retrying", error=str(error))
        return str(error)

    async def _dead_letter(self, batch: Batch, delivery: Delivery, poison: PoisonError) -> None:
        await self._retried(lambda: batch.dead_letter(delivery, poison.reason, poison.detail))
        self._metrics.dropped.labels(event_label(delivery.event), poison.reason).inc()
        _log.error(
            "dead-lettered",
            delivery_id=delivery.id,
            event_type=delivery.event,
            reason=poison.reason,
            detail=poison.detail,
        )

    def _record(self, committed: Committed) -> None:
        now = self._clock()
        self._count(self._metrics.processed, committed.new)
        self._count(self._metrics.duplicates_dropped, committed.duplicates)
        self._counting_log.reports(committed.reports)
        for metric, times in committed.overflows.items():
            self._metrics.overflow.labels(metric).inc(times)
        for one in committed.new:
            received = one.delivery.received_at / 1000
            self._metrics.lag.observe(max(0.0, now - received))
            if one.delivery.source is None:
                self._newest(event_label(one.delivery.event), received)
            else:
                self._late(one.delivery)
            self._counting_log.counted(one.delivery, one.meaning)
            if _stdlib.isEnabledFor(logging.DEBUG):  # a suppressed line costs 10 µs
                _log.debug("counted", delivery_id=one.delivery.id)
        for one in committed.duplicates:
            _log.debug("dropped as a duplicate", delivery_id=one.delivery.id)

    def _late(self, delivery: Delivery) -> None:
        """Count a delivery that did not come through the webhook."""
        event = event_label(delivery.event)
        if delivery.source == RECONCILED:
            self._metrics.corrected.labels(event.removeprefix("workflow_"), "api").inc()
        elif delivery.source != BACKFILLED:
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
