"""Publishes deliveries to the broker. While the broker refuses them, stores them in a spool on this receiver's disk.

GitHub does not redeliver by itself. Without the spool, all deliveries during an outage of the broker would be missing.
The spooled deliveries are forwarded in order. As soon as the broker confirms again, new deliveries go directly to it:
the processor does not depend on their order, and an answer to GitHub need not wait for the backlog.
"""

import asyncio
from contextlib import suppress

from ingest.outcomes import RequestOutcome
from ingest.receiver_metrics import SpoolFigures
from shared.brokers.interface import Batch, PublishingBroker
from shared.brokers.spool import SpoolBroker
from shared.delivery import Delivery
from shared.errors import BrokerError, BrokerUnavailable, MessageTooLarge, QueueFull
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses

FORWARDED_AT_ONCE = 32
"""Number of deliveries that are forwarded at the same time: few, so that new deliveries have priority."""

FIRST_FORWARD_PAUSE = 0.1
"""Maximum pause before the first retry of forwarding, in seconds."""

LONGEST_FORWARD_PAUSE = 1.0
"""Maximum pause between retries of forwarding, in seconds."""

LAST_SECONDS = 10.0
"""How long forwarding may continue after the stop, in seconds. The remaining deliveries stay in the spool."""

SPOOL_POLL_SECONDS = 0.05
"""How often the intake checks after the stop whether the spool is empty, in seconds."""

TOO_LARGE = "too_large"
"""Reason of a dead letter in the spool: the broker accepts no message of this size."""

_log = get_logger(__name__)


class Intake:
    """Publishes or spools deliveries."""

    def __init__(self, broker: PublishingBroker, spool: SpoolBroker | None = None) -> None:
        """`start` and `close` also start and close both. Without a spool, a delivery is refused if the broker fails."""
        self._broker = broker
        self._spool = spool
        self._refusal: BrokerError | None = None
        self._forwarded = 0

    async def start(self) -> None:
        """Open the spool and start to connect. Raises `SettingsError` if the spool's directory cannot be used."""
        if self._spool is not None:
            await self._spool.start()
        await self._broker.start()

    async def close(self) -> None:
        """Close both, within a bounded time."""
        await self._broker.close()
        if self._spool is not None:
            await self._spool.close()

    @property
    def broker_up(self) -> bool:
        """Whether the broker is connected and accepts messages."""
        return self._broker.available

    @property
    def trouble(self) -> str:
        """Why the broker is not available, and the spool, if there is one."""
        if self._spool is None:
            return self._broker.trouble
        return f"{self._broker.trouble}; {'the spool is full' if self._spool.available else self._spool.trouble}"

    @property
    def available(self) -> bool:
        """Whether `take` is likely to succeed now."""
        return self.broker_up or (self._spool is not None and self._spool.has_room)

    def figures(self) -> SpoolFigures:
        """Return how full the spool is."""
        return SpoolFigures() if self._spool is None else SpoolFigures.of(self._spool, self._forwarded)

    async def take(self, delivery: Delivery) -> RequestOutcome:
        """Return `ACCEPTED` once the broker has confirmed a delivery, or `SPOOLED` once it is on disk.

        Raises the errors of `shared.brokers.interface.Publisher.publish` if both fail.
        """
        if self._spool is None:
            await self._broker.publish(delivery)
            return RequestOutcome.ACCEPTED
        if self._goes_past(self._spool):
            try:
                await self._broker.publish(delivery)
            except (BrokerUnavailable, QueueFull) as error:
                self._refused(error)
            else:
                return RequestOutcome.ACCEPTED
        await self._keep(self._spool, delivery)
        return RequestOutcome.SPOOLED

    async def forward(self, stop: asyncio.Event) -> None:
        """Forward the spooled deliveries until `stop` is set, and then for at most `LAST_SECONDS`."""
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
        """Return whether to publish a new delivery directly, without the spool.

        After the broker has refused a delivery, new deliveries go to the spool until forwarding succeeds, so that no
        request waits for a timeout of the broker. If the spool is empty or cannot be written, a new delivery goes to
        the broker in any case.
        """
        return self.broker_up and (self._refusal is None or not spool.deliveries or not spool.available)

    async def _keep(self, spool: SpoolBroker, delivery: Delivery) -> None:
        refusal = self._refusal or BrokerUnavailable("no connection, or blocked by an alarm")
        try:
            await spool.publish(delivery)
        except BrokerError as error:
            raise type(refusal)(f"{refusal}; {error}") from None

    async def _drain(self, spool: SpoolBroker) -> None:
        """Wait until the spool is empty or the broker refuses a delivery."""
        self._refusal = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while spool.deliveries and self.broker_up and self._refusal is None:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(SPOOL_POLL_SECONDS)

    async def _forward(self, spool: SpoolBroker, stop: asyncio.Event) -> None:
        consumer = await spool.consume(FORWARDED_AT_ONCE)
        async for batch in consumer.batches(FORWARDED_AT_ONCE, 0):
            await self._send(batch, stop)
            await batch.ack()

    async def _send(self, batch: Batch, stop: asyncio.Event) -> None:
        """Publish a batch, with retries until it succeeds. Retries at once when `stop` is set."""
        left = batch.deliveries
        waits = pauses(FIRST_FORWARD_PAUSE, LONGEST_FORWARD_PAUSE)
        while True:
            errors = await asyncio.gather(*(self._hand_over(batch, delivery) for delivery in left))
            left = [delivery for delivery, error in zip(left, errors, strict=True) if error is not None]
            if not left:
                self._taken()
                return
            self._refused(next(error for error in errors if error is not None))
            await is_set_within(stop, next(waits))

    async def _hand_over(self, batch: Batch, delivery: Delivery) -> BrokerError | None:
        """Publish a delivery, or dead-letter it if it is too large. Return the error if that failed."""
        try:
            try:
                await self._broker.publish(delivery)
            except MessageTooLarge as error:
                await batch.dead_letter(delivery, TOO_LARGE, str(error))
                _log.error("dead-lettered in the spool", delivery_id=delivery.id, reason=TOO_LARGE)
            else:
                self._forwarded += 1
        except BrokerError as error:
            return error
        return None

    def _refused(self, error: BrokerError) -> None:
        if self._refusal is None:
            _log.warning("the broker accepts no deliveries; they go to the spool", reason=str(error))
        self._refusal = error

    def _taken(self) -> None:
        if self._refusal is not None:
            _log.info("the broker accepts deliveries again")
        self._refusal = None
