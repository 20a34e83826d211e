"""RabbitMQ as `shared.brokers.interface.Broker`."""

import asyncio

from aio_pika.abc import AbstractConnection
from yarl import URL

from shared.brokers.interface import MAX_HELD_BYTES, Consumer, Depths, Held
from shared.brokers.rabbitmq.amqp_consumer import DeadLetterPublisher
from shared.brokers.rabbitmq.consumer_group import ConsumerGroup
from shared.brokers.rabbitmq.link import Link, describe, within
from shared.brokers.rabbitmq.messages import DeliveryProperties
from shared.brokers.rabbitmq.publishing import ConfirmingPublisher
from shared.brokers.rabbitmq.topology import ControlChannel, Declarations, Topology, check_publish_right, measure
from shared.brokers.rabbitmq.underlay import Envelope, tolerate_any_properties
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable

MEASURE_SECONDS = 5.0
"""Deadline of `depths`."""

CONFIRM_SECONDS = 2.0
"""How long `close` waits for confirms."""


class RabbitBroker:
    """Publishes over one connection and consumes over another.

    RabbitMQ stops reading from a publishing connection when it is short of memory or disk. Acks free memory and disk,
    so they need a separate connection.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        name: str,
        publish_timeout: float = 5.0,
        *,
        max_held_bytes: int = MAX_HELD_BYTES,
        allow_unsafe_queue: bool = False,
    ) -> None:
        """RabbitMQ shows `name` as the name of the connections; `publish_timeout` is in seconds.

        `max_held_bytes` is the maximum of the payloads that the consumers hold together. `allow_unsafe_queue` says
        whether to use an existing queue that could lose deliveries.
        """
        tolerate_any_properties()
        self._topology = topology
        self._declarations = Declarations(topology, allow_unsafe_queue)
        self._publishing = Link(URL(url), f"promgithub {name} publishing", self._prepare_publishing)
        self._consuming = Link(URL(url), f"promgithub {name} consuming", self._prepare_consuming)
        self._control = {self._publishing: ControlChannel(), self._consuming: ControlChannel()}
        self._publisher = ConfirmingPublisher(self._publishing, publish_timeout)
        dead_letters = DeadLetterPublisher(topology.dead_letter_queue, self._publisher)
        self._consumers = ConsumerGroup(self._consuming, topology.queue, dead_letters, max_held_bytes)

    async def start(self) -> None:
        """Start to connect and return at once."""
        self._publishing.start()

    @property
    def available(self) -> bool:
        """Whether the publishing connection is open and RabbitMQ does not block it."""
        return self._publisher.available

    @property
    def trouble(self) -> str:
        """Why the broker is not available."""
        return self._publishing.trouble or f"no connection to RabbitMQ at {self._publishing.address} yet"

    @property
    def held(self) -> Held:
        """What the consumers hold."""
        return self._consumers.held

    @property
    def returns(self) -> int:
        """How often deliveries returned to the queue because their payloads were too large together."""
        return self._consumers.room.returns

    async def ready_within(self, seconds: float) -> bool:
        """Wait at most `seconds` until the broker is available; return whether it is."""
        return await self._publisher.ready_within(seconds)

    async def publish(self, delivery: Delivery) -> None:
        """Return once a majority of the queue's replicas have the delivery on disk; see `interface.Publisher`."""
        properties = DeliveryProperties(delivery)
        await self._publisher.publish(Envelope(self._topology.exchange, delivery.event, delivery.body, properties))

    async def consume(self, prefetch: int) -> Consumer:
        """Return a consumer once RabbitMQ has accepted it."""
        return await self._consumers.join(prefetch)

    async def depths(self) -> Depths:
        """Return how full the queues are.

        Uses the consuming connection if it is up, because RabbitMQ never blocks it.
        """
        link = self._consuming if self._consuming.up else self._publishing
        try:
            return await within(MEASURE_SECONDS, measure(self._topology, link.connection, self._control[link]))
        except BrokerUnavailable:
            raise
        except Exception as error:
            link.nudge()
            raise BrokerUnavailable(describe(error)) from error

    async def close(self) -> None:
        """Wait at most `CONFIRM_SECONDS` for confirms, then close the connections; takes a few seconds at most."""
        await self._publisher.close(CONFIRM_SECONDS)
        self._consumers.end()
        await asyncio.gather(self._consuming.close(), self._publishing.close())

    async def _prepare_publishing(self, connection: AbstractConnection) -> None:
        control = self._control[self._publishing]
        await self._declare(connection, control)
        await check_publish_right(self._topology, connection, control)
        await self._publisher.open(connection)

    async def _prepare_consuming(self, connection: AbstractConnection) -> None:
        await self._declare(connection, self._control[self._consuming])
        await self._consumers.attach(connection)

    async def _declare(self, connection: AbstractConnection, control: ControlChannel) -> None:
        """Declare the queues. If the main queue was missing, its consumers may be lost without a Basic.Cancel."""
        if await self._declarations.make(connection, control):
            self._consumers.renew()
