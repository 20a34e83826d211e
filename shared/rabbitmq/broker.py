"""RabbitMQ as `shared.broker.Broker`."""

import asyncio

from aiormq.abc import AbstractConnection
from yarl import URL

from shared.broker import Consumer, Depths
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable
from shared.rabbitmq.consuming import DeadLetters, RabbitConsumer
from shared.rabbitmq.decoding import tolerate_any_properties
from shared.rabbitmq.lanes import Envelope
from shared.rabbitmq.link import Link, describe, within
from shared.rabbitmq.messages import DeliveryProperties
from shared.rabbitmq.publishing import Confirms
from shared.rabbitmq.topology import Declarations, Topology, measure

MEASURE_SECONDS = 5.0
"""Deadline of asking how full the queues are."""

CONFIRM_SECONDS = 2.0
"""How long `close` waits for confirms."""


class RabbitBroker:
    """Publishes over one connection and consumes over another.

    Two, because RabbitMQ stops reading from a connection that publishes when it is short of memory or disk, and the
    acks that would make room must not wait behind that.
    """

    def __init__(self, url: str, topology: Topology, name: str, publish_timeout: float = 5.0) -> None:
        """`name` is what RabbitMQ shows for the connections; `publish_timeout` is in seconds."""
        tolerate_any_properties()
        self._topology = topology
        self._declarations = Declarations(topology)
        self._publishing = Link(URL(url), f"promgithub {name} publishing", self._prepare_publishing)
        self._consuming = Link(URL(url), f"promgithub {name} consuming", self._prepare_consuming)
        self._confirms = Confirms(self._publishing, publish_timeout)
        self._dead_letters = DeadLetters(topology.dead_letter_queue, self._confirms)
        self._consumers: list[RabbitConsumer] = []
        self._cautious = True

    async def start(self) -> None:
        """Begin to connect and return at once."""
        self._publishing.start()

    @property
    def available(self) -> bool:
        """Whether there is a connection to publish over that RabbitMQ does not block."""
        return self._confirms.available

    async def publish(self, delivery: Delivery) -> None:
        """Return once a majority of the queue's replicas have the delivery on disk; see `shared.broker.Publisher`."""
        properties = DeliveryProperties(delivery)
        await self._confirms.publish(Envelope(self._topology.exchange, delivery.event, delivery.body, properties))

    async def consume(self, prefetch: int) -> Consumer:
        """Return a consumer once RabbitMQ has accepted it."""
        consumer = RabbitConsumer(self._consuming, self._topology.queue, prefetch, self._dead_letters, self._trust)
        self._consumers = [*(one for one in self._consumers if not one.released), consumer]
        self._consuming.start()
        self._consuming.nudge()
        try:
            await consumer.attached.wait()
        except asyncio.CancelledError:
            self._consumers.remove(consumer)
            raise
        return consumer

    async def depths(self) -> Depths:
        """Return how full the queues are, asked over the connection that RabbitMQ does not block if there is one."""
        link = self._consuming if self._consuming.up else self._publishing
        try:
            return await within(MEASURE_SECONDS, measure(self._topology, link.connection))
        except BrokerUnavailable:
            raise
        except Exception as error:
            link.nudge()
            raise BrokerUnavailable(describe(error)) from error

    async def close(self) -> None:
        """Wait a little for confirms, then close the connections; takes a few seconds at most."""
        await self._confirms.close(CONFIRM_SECONDS)
        for consumer in self._consumers:
            consumer.end()
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def _prepare_publishing(self, connection: AbstractConnection) -> None:
        await self._declarations.make(connection)
        await self._confirms.open(connection)

    async def _prepare_consuming(self, connection: AbstractConnection) -> None:
        """Let messages come: one at a time to begin with.

        Whatever a process holds when it dies has been redelivered once more, whether it was the cause or only waited
        behind it. Held together with a message that kills each process, all the others would reach the delivery limit
        together with it.
        """
        await self._declarations.make(connection)
        alone = next((consumer for consumer in self._consumers if not consumer.stopping), None)
        for consumer in self._consumers:
            most = int(consumer is alone) if self._cautious else consumer.prefetch
            await consumer.attach(connection, most)

    def _trust(self) -> None:
        """Let as many messages come as may: RabbitMQ hands out those that have come back before any that have not."""
        if self._cautious:
            self._cautious = False
            self._consuming.nudge()
