"""The exchange and the queues. Every process declares them when it connects."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed

from shared.brokers.interface import NO_DELIVERY_LIMIT, Depths
from shared.brokers.rabbitmq.queue_safety import QueueShape
from shared.errors import UnsafeQueue
from shared.logs import get_logger

DEFAULT_QUEUE = "promgithub.deliveries"
"""The queue whose exchange is called `promgithub`."""

EVERYTHING = "#"
"""The binding key of a topic exchange that matches every routing key."""

MAX_DIFFERENCES = 30
"""How many differences of an existing queue are looked for. RabbitMQ has fewer arguments than this."""

NEVER_BOUND = "promgithub checks the right to publish"
"""A binding key without a binding; see `check_publish_right`."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Topology:
    """Names and arguments of the exchange and the queues. `size` is the maximum number of ready messages per queue.

    `delivery_limit` is how often a message may be redelivered before RabbitMQ makes it a dead letter.
    """

    queue: str
    size: int
    delivery_limit: int

    @property
    def exchange(self) -> str:
        """`promgithub` for the default queue, and the queue's own name for any other.

        With one exchange, two installations that share a virtual host would each get every delivery of the other.
        """
        return "promgithub" if self.queue == DEFAULT_QUEUE else self.queue

    @property
    def dead_letter_queue(self) -> str:
        """The queue of refused deliveries."""
        return f"{self.queue}.dead"

    @property
    def queue_arguments(self) -> Mapping[str, str | int]:
        """The queue rejects publishes when it is full, and dead-letters at least once.

        The delivery limit is always set, because RabbitMQ's default differs between versions.
        """
        return {
            **self._bounds,
            "x-delivery-limit": self.delivery_limit,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead_letter_queue,
            "x-dead-letter-strategy": "at-least-once",
        }

    @property
    def dead_letter_queue_arguments(self) -> Mapping[str, str | int]:
        """The queue rejects publishes when it is full, and has no delivery limit.

        Reading a dead letter takes and requeues it, which counts against the delivery limit. RabbitMQ 4 has a default
        limit of 20. It would delete a dead letter at the 21st read, because this queue has no dead-letter queue.
        """
        return {**self._bounds, "x-delivery-limit": NO_DELIVERY_LIMIT}

    @property
    def _bounds(self) -> Mapping[str, str | int]:
        return {"x-queue-type": "quorum", "x-max-length": self.size, "x-overflow": "reject-publish"}


class ControlChannel:
    """A link's channel for calls that RabbitMQ may refuse. RabbitMQ then closes it, and the next call opens another.

    The channel is reused, because aio-pika keeps 4 KB per channel until the connection ends (decision 0008).
    """

    def __init__(self) -> None:
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._in_use = asyncio.Lock()

    @asynccontextmanager
    async def on(self, connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
        """Yield the open channel of a connection, to one caller at a time."""
        async with self._in_use:
            if self._channel is None or self._channel.is_closed or self._connection is not connection:
                self._channel = await connection.channel(publisher_confirms=False)
                self._connection = connection
            yield self._channel


class Declarations:
    """Declares a topology, on each connection."""

    def __init__(self, topology: Topology, allow_unsafe: bool) -> None:
        """If `allow_unsafe` is set, a queue that could lose deliveries is used after a warning."""
        self._topology = topology
        self._allow_unsafe = allow_unsafe
        self._differing: dict[tuple[str, ControlChannel], AbstractConnection] = {}
        self._said: set[str] = set()

    async def make(self, connection: AbstractConnection, control: ControlChannel) -> bool:
        """Make sure that the exchange and the queues exist and are bound; return whether the main queue was missing.

        A queue or exchange that exists with other arguments is used unchanged, after a warning: RabbitMQ cannot change
        the arguments of an existing one. Raises `UnsafeQueue` for a queue that could lose deliveries.
        """
        topology, visit = self._topology, _Visit(connection, control)
        await self._ensure_queue(visit, topology.dead_letter_queue, topology.dead_letter_queue_arguments, None)
        await self._ensure_exchange(visit)
        missing = await self._ensure_queue(visit, topology.queue, topology.queue_arguments, topology.dead_letter_queue)
        async with visit.channel() as channel:
            queue = await channel.get_queue(topology.queue, ensure=False)
            await queue.bind(topology.exchange, EVERYTHING)
        return missing

    async def _ensure_exchange(self, visit: "_Visit") -> None:
        name = self._topology.exchange
        try:
            async with visit.channel() as channel:
                await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
        except ChannelPreconditionFailed as error:
            async with visit.channel() as channel:
                await channel.declare_exchange(name, passive=True)
            self._warn("an exchange exists with other arguments, and is used unchanged", str(error))

    async def _ensure_queue(
        self, visit: "_Visit", name: str, arguments: Mapping[str, str | int], dead_letter_queue: str | None
    ) -> bool:
        """Declare a queue; return whether it was missing. If it exists with other arguments, check that it is safe."""
        missing = not await visit.exists(name)
        if not missing and self._differing.get((name, visit.control)) is visit.connection:
            return False
        refusal = await visit.refusal(name, QueueShape(arguments))
        if refusal is not None:
            await self._check(visit, name, QueueShape(arguments), refusal, dead_letter_queue)
            self._differing[name, visit.control] = visit.connection
        return missing

    async def _check(
        self, visit: "_Visit", name: str, wanted: QueueShape, refusal: str, dead_letter_queue: str | None
    ) -> None:
        """Find out how an existing queue was declared. Raises `UnsafeQueue` if that is dangerous and not allowed."""
        first, shape = refusal, wanted
        for _ in range(MAX_DIFFERENCES):
            corrected = shape.corrected(refusal)
            if corrected is None:
                break
            shape = corrected
            found = await visit.refusal(name, shape)
            if found is None:
                break
            refusal = found
        dangers = "; ".join(shape.dangers(dead_letter_queue))
        if not dangers:
            self._warn("a queue exists with other arguments, and is used unchanged", first)
        elif self._allow_unsafe:
            self._warn("a queue that could lose deliveries is used, as ALLOW_UNSAFE_QUEUE says", f"{name}: {dangers}")
        else:
            raise UnsafeQueue(
                f"the queue {name} could lose deliveries ({dangers}); empty and delete it, and promgithub declares it "
                "again, or set PROMGITHUB_ALLOW_UNSAFE_QUEUE=true"
            )

    def _warn(self, event: str, difference: str) -> None:
        if difference not in self._said:
            self._said.add(difference)
            _log.warning(event, difference=difference)


@dataclass(frozen=True, slots=True)
class _Visit:
    """Declarations over one connection."""

    connection: AbstractConnection
    control: ControlChannel

    def channel(self) -> AbstractAsyncContextManager[AbstractChannel]:
        return self.control.on(self.connection)

    async def exists(self, name: str) -> bool:
        try:
            async with self.channel() as channel:
                await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True

    async def refusal(self, name: str, shape: QueueShape) -> str | None:
        """Declare a queue; return why RabbitMQ refuses that, or None if it does not."""
        try:
            async with self.channel() as channel:
                await channel.declare_queue(
                    name, durable=shape.durable, auto_delete=shape.auto_delete, arguments={**shape.arguments}
                )
        except ChannelPreconditionFailed as error:
            return str(error)
        return None


async def check_publish_right(topology: Topology, connection: AbstractConnection, control: ControlChannel) -> None:
    """Raise `ChannelAccessRefused` if the user may not publish to the exchange.

    RabbitMQ checks that right at each publish, but not when the exchange is declared. It also checks it when a binding
    with the exchange as destination is removed (https://www.rabbitmq.com/docs/access-control), and removing one that
    does not exist changes nothing. A publish would leave a message in the queue, and would let RabbitMQ block the
    connection during an alarm.
    """
    async with control.on(connection) as channel:
        exchange = await channel.get_exchange(topology.exchange, ensure=False)
        await exchange.unbind(exchange, NEVER_BOUND)


async def measure(topology: Topology, connection: AbstractConnection, control: ControlChannel) -> Depths:
    """Return how full the queues are. The capacity is that of the topology, even if the queue has another maximum."""
    async with control.on(connection) as channel:
        ready = await message_count(channel, topology.queue)
        dead_letters = await message_count(channel, topology.dead_letter_queue)
    return Depths(ready, topology.size, dead_letters)


async def message_count(channel: AbstractChannel, queue: str) -> int:
    """Return how many messages of a queue are ready. Raises `ChannelNotFoundEntity` if there is no such queue."""
    return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0
