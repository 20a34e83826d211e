"""The consumers of one process: how many messages each may hold, and when new ones replace them."""

import asyncio

from aio_pika.abc import AbstractConnection

from shared.brokers.interface import NOTHING_HELD, Held
from shared.brokers.rabbitmq.amqp_consumer import DeadLetterPublisher, RabbitConsumer
from shared.brokers.rabbitmq.inbox import Room
from shared.brokers.rabbitmq.link import Link
from shared.logs import get_logger

_log = get_logger(__name__)


class ConsumerGroup:
    """Consumers of one queue over one link. The link's `prepare` must call `attach`."""

    def __init__(self, link: Link, queue: str, dead_letters: DeadLetterPublisher, max_bytes: int) -> None:
        """`max_bytes` is the maximum of the payloads that the consumers hold together."""
        self._link = link
        self._queue = queue
        self._dead_letters = dead_letters
        self._consumers: list[RabbitConsumer] = []
        self._cautious = True
        self._emptying = False
        self.room = Room(max_bytes)
        """What the consumers may hold together."""

    @property
    def held(self) -> Held:
        """What the consumers hold."""
        return sum((consumer.held for consumer in self._consumers), NOTHING_HELD)

    async def join(self, prefetch: int) -> RabbitConsumer:
        """Return a new consumer once RabbitMQ has accepted it."""
        consumer = RabbitConsumer(self._link, self._queue, prefetch, self._dead_letters, self)
        self._consumers = [*(one for one in self._consumers if not one.released), consumer]
        self._link.start()
        self._link.nudge()
        try:
            await consumer.attached.wait()
        except asyncio.CancelledError:
            self._consumers.remove(consumer)
            raise
        return consumer

    async def attach(self, connection: AbstractConnection) -> None:
        """Attach each consumer to a connection."""
        consumers = list(self._consumers)
        for consumer, most in zip(consumers, self._shares(consumers), strict=True):
            await consumer.attach(connection, most)

    def renew(self) -> None:
        """Let each consumer open a new channel, because RabbitMQ may have lost the old consumers."""
        for consumer in self._consumers:
            consumer.renew()

    def end(self) -> None:
        """End the batches of each consumer."""
        for consumer in self._consumers:
            consumer.end()

    def fresh(self) -> None:
        """Let each consumer hold its full prefetch. RabbitMQ delivers redelivered messages before all others."""
        if self._cautious:
            self._cautious = False
            self._link.nudge()

    def overflow(self) -> None:
        """Return what waits to the queue. Once all batches are finished, consume fewer messages at a time."""
        deliveries, size = self.room.messages, self.room.bytes
        self._emptying = True
        _log.warning(
            "the payloads exceed MAX_HELD_BYTES, deliveries return to the queue",
            deliveries=deliveries,
            bytes=size,
            prefetch=self.room.shrink(),
        )
        for consumer in self._consumers:
            consumer.give_back()

    def finished(self) -> None:
        """Start new consumers once nothing is held after an `overflow`, or later with a larger prefetch."""
        if self._emptying:
            if not self.room.messages:
                self._link.nudge()
        elif self.room.grow():
            self._link.nudge()

    def _shares(self, consumers: list[RabbitConsumer]) -> list[int]:
        """Return how many messages each consumer may hold.

        Until a message arrives that is not redelivered, they hold only one in total. When a process dies, RabbitMQ
        counts a redelivery for every message that the process held. If one message crashes every process, messages held
        at the same time would reach the delivery limit as well.
        """
        self._emptying = self._emptying and self.room.messages > 0
        if self._emptying:
            return [0] * len(consumers)
        if self._cautious:
            alone = next((consumer for consumer in consumers if not consumer.stopping), None)
            return [int(consumer is alone) for consumer in consumers]
        return self.room.shares([consumer.prefetch for consumer in consumers])
