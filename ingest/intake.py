"""Where deliveries go: to the broker or, while it takes none, to a spool on this receiver's disk until it does.

GitHub does not send a refused delivery again by itself, so an hour without a broker would be an hour without figures.
What is in the spool is forwarded in its order. What arrives goes past it as soon as the broker confirms again: order
means nothing to the processor, and an answer need not wait for a backlog.
"""

import asyncio
from contextlib import suppress

from ingest.answers import Outcome
from ingest.metrics import SpoolFigures
from shared.broker import Batch, Broker
from shared.delivery import Delivery
from shared.errors import BrokerError, BrokerUnavailable, MessageTooLarge, QueueFull
from shared.logs import get_logger
from shared.spool import SpoolBroker
from shared.waiting import is_set_within, pauses

FORWARDED_AT_ONCE = 32
"""Deliveries on their way from the spool to the broker at the same time: few, beside those that arrive."""

FIRST_PAUSE = 0.1
"""Seconds before what the broker did not take is forwarded again, at most."""

LONGEST_PAUSE = 1.0
"""Seconds that a pause never exceeds."""

LAST_SECONDS = 10.0
"""Seconds that forwarding may go on after the stop; what is left then stays in the spool."""

POLL_SECONDS = 0.05
"""Seconds between looks at whether the spool is empty, after the stop."""

TOO_LARGE = "too_large"
"""Reason of a dead letter that was accepted into the spool, but that the broker refuses for its size."""

_log = get_logger(__name__)


class Intake:
    """Takes deliveries, and says how each was taken."""

    def __init__(self, broker: Broker, spool: SpoolBroker | None = None) -> None:
        """Both are started and closed with the intake. Without a spool, what the broker refuses is refused."""
        self._broker = broker
        self._spool = spool
        self._refusal: BrokerError | None = None
        self._forwarded = 0

    async def start(self) -> None:
        """Open the spool and begin to connect. Raises `SettingsError` if the spool's directory cannot be had."""
        if self._spool is not None:
            await self._spool.start()
        await self._broker.start()

    async def close(self) -> None:
        """Let go of both, within a bounded time."""
        await self._broker.close()
        if self._spool is not None:
            await self._spool.close()

    @property
    def broker_up(self) -> bool:
        """Whether the broker is there."""
        return self._broker.available

    @property
    def available(self) -> bool:
        """Whether a delivery is likely to be taken now."""
        return self.broker_up or (self._spool is not None and self._spool.has_room)

    def figures(self) -> SpoolFigures:
        """Return how full the spool is."""
        return SpoolFigures() if self._spool is None else SpoolFigures.of(self._spool, self._forwarded)

    async def take(self, delivery: Delivery) -> Outcome:
        """Return `ACCEPTED` once the broker has confirmed a delivery, or `SPOOLED` once it is on disk.

        Raises as `shared.broker.Publisher.publish` does if neither takes it.
        """
        if self._spool is None:
            await self._broker.publish(delivery)
            return Outcome.ACCEPTED
        if self._goes_past(self._spool):
            try:
                await self._broker.publish(delivery)
            except (BrokerUnavailable, QueueFull) as error:
                self._refused(error)
            else:
                return Outcome.ACCEPTED
        await self._keep(self._spool, delivery)
        return Outcome.SPOOLED

    async def forward(self, stop: asyncio.Event) -> None:
        """Forward what is in the spool until `stop` is set, and a little longer if the broker takes it."""
        if self._spool is None:
            return
        async with asyncio.TaskGroup() as tasks:
            forwarding = tasks.create_task(self._forward(self._spool, stop))
            await stop.wait()
            await self._drain(self._spool)
            forwarding.cancel()
        if self._spool.deliveries:
            _log.warning("deliveries stay in the spool until the next start", deliveries=self._spool.deliveries)

    def _goes_past(self, spool: SpoolBroker) -> bool:
        """Tell whether a delivery is to be published at once.

        After a refusal it is the forwarding that finds out when the broker takes deliveries again, so that no sender
        waits for that; unless there is nothing to forward, or nothing can be.
        """
        return self.broker_up and (self._refusal is None or not spool.deliveries or not spool.available)

    async def _keep(self, spool: SpoolBroker, delivery: Delivery) -> None:
        refusal = self._refusal or BrokerUnavailable("no connection, or blocked by an alarm")
        try:
            await spool.publish(delivery)
        except BrokerError as error:
            raise type(refusal)(f"{refusal}; {error}") from None

    async def _drain(self, spool: SpoolBroker) -> None:
        """Give the forwarding time to empty the spool, until the broker refuses."""
        self._refusal = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while spool.deliveries and self.broker_up and self._refusal is None:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(POLL_SECONDS)

    async def _forward(self, spool: SpoolBroker, stop: asyncio.Event) -> None:
        consumer = await spool.consume(FORWARDED_AT_ONCE)
        async for batch in consumer.batches(FORWARDED_AT_ONCE, 0):
            await self._send(batch, stop)
            await batch.ack()

    async def _send(self, batch: Batch, stop: asyncio.Event) -> None:
        """Hand a batch to the broker, however long that takes; try again at once when `stop` is set."""
        left = batch.deliveries
        waits = pauses(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            errors = await asyncio.gather(*(self._hand_over(batch, delivery) for delivery in left))
            left = [delivery for delivery, error in zip(left, errors, strict=True) if error is not None]
            if not left:
                self._taken()
                return
            self._refused(next(error for error in errors if error is not None))
            await is_set_within(stop, next(waits))

    async def _hand_over(self, batch: Batch, delivery: Delivery) -> BrokerError | None:
        """Publish a delivery, or bury it if it can never be published; return why neither could be done."""
        try:
            try:
                await self._broker.publish(delivery)
            except MessageTooLarge as error:
                await batch.dead_letter(delivery, TOO_LARGE, str(error))
                _log.error("put among the spool's dead letters", delivery_id=delivery.id, reason=TOO_LARGE)
            else:
                self._forwarded += 1
        except BrokerError as error:
            return error
        return None

    def _refused(self, error: BrokerError) -> None:
        if self._refusal is None:
            _log.warning("the broker takes no deliveries; they go to the spool", reason=str(error))
        self._refusal = error

    def _taken(self) -> None:
        if self._refusal is not None:
            _log.info("the broker takes deliveries again")
        self._refusal = None
