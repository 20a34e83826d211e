"""The exchange and the queues through which deliveries go, declared by whoever comes first."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiormq import ChannelPreconditionFailed
from aiormq.abc import AbstractChannel, AbstractConnection, FieldTable

from shared.broker import Depths
from shared.logs import get_logger

DEFAULT_QUEUE = "promgithub.deliveries"
"""The queue whose exchange is called `promgithub`."""

EVERYTHING = "#"
"""The binding key of a topic exchange that matches every routing key."""

NEVER = 1_000_000_000
"""A delivery limit that is not reached. 3.10 takes no -1, which is what later versions know for none."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Topology:
    """The names and the arguments; `size` bounds each queue in messages that wait.

    `delivery_limit` is how often a message may come back before RabbitMQ makes a dead letter of it.
    """

    queue: str
    size: int
    delivery_limit: int

    @property
    def exchange(self) -> str:
        """`promgithub` for the default queue, and the queue's own name for any other.

        Two installations that share a virtual host, and differ in the name of their queue, would otherwise each get a
        copy of every delivery of the other.
        """
        return "promgithub" if self.queue == DEFAULT_QUEUE else self.queue

    @property
    def dead_letter_queue(self) -> str:
        """The queue for what was refused."""
        return f"{self.queue}.dead"

    @property
    def queue_arguments(self) -> FieldTable:
        """A queue that says no when it is full, and lets go of a dead letter once that is safe in its own queue.

        The delivery limit is always given, as RabbitMQ's own differs between its versions.
        """
        return self._bounds | {
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_letter_queue,
            "x-dead-letter-strategy": "at-least-once",
        }

    @property
    def dead_letter_queue_arguments(self) -> FieldTable:
        """A queue that says no when it is full, and that may be looked at as often as anyone likes.

        Looking is taking and giving back, which counts against the delivery limit. RabbitMQ 4 has one of 20 unless told
        otherwise, and would delete a dead letter at the 21st look, as there is no queue behind this one.
        """
        return self._bounds | {"x-delivery-limit": NEVER}

    @property
    def _bounds(self) -> FieldTable:
        return {"x-queue-type": "quorum", "x-max-length": self.size, "x-overflow": "reject-publish"}


class Declarations:
    """Declares a topology, as often as needed."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._differences: set[str] = set()

    async def make(self, connection: AbstractConnection) -> None:
        """Make sure that the exchange and the queues exist and are bound.

        What exists with other arguments is used as it is, after a warning: only deleting it could change them.
        """
        await self._ensure(connection, self._declare_dead_letter_queue)
        await self._ensure(connection, self._declare_exchange)
        await self._ensure(connection, self._declare_queue)
        async with temporary_channel(connection) as channel:
            await channel.queue_bind(self._topology.queue, self._topology.exchange, EVERYTHING)

    async def _declare_exchange(self, channel: AbstractChannel, passive: bool) -> None:
        await channel.exchange_declare(self._topology.exchange, exchange_type="topic", durable=True, passive=passive)

    async def _declare_queue(self, channel: AbstractChannel, passive: bool) -> None:
        arguments = self._topology.queue_arguments
        await channel.queue_declare(self._topology.queue, durable=True, passive=passive, arguments=arguments)

    async def _declare_dead_letter_queue(self, channel: AbstractChannel, passive: bool) -> None:
        arguments = self._topology.dead_letter_queue_arguments
        await channel.queue_declare(
            self._topology.dead_letter_queue, durable=True, passive=passive, arguments=arguments
        )

    async def _ensure(
        self, connection: AbstractConnection, declare: Callable[[AbstractChannel, bool], Awaitable[None]]
    ) -> None:
        """Declare something, or, if it is there with other arguments, make sure that it is there."""
        try:
            async with temporary_channel(connection) as channel:
                await declare(channel, False)
        except ChannelPreconditionFailed as error:
            async with temporary_channel(connection) as channel:
                await declare(channel, True)
            self._warn(str(error))

    def _warn(self, difference: str) -> None:
        if difference not in self._differences:
            self._differences.add(difference)
            _log.warning("exists with other arguments and is used as it is", difference=difference)


async def measure(topology: Topology, connection: AbstractConnection) -> Depths:
    """Return how full the queues are; the capacity is the topology's, whatever an existing queue may have."""
    async with temporary_channel(connection) as channel:
        queue = await channel.queue_declare(topology.queue, passive=True)
        dead_letter_queue = await channel.queue_declare(topology.dead_letter_queue, passive=True)
    return Depths(queue.message_count or 0, topology.size, dead_letter_queue.message_count or 0)


@asynccontextmanager
async def temporary_channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Open a channel for a few calls: RabbitMQ closes a channel whose call it refuses, with all that goes on there."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        yield channel
    finally:
        await channel.close()
