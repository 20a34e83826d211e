"""The two brokers as a benchmark sees them: a queue of its own to start processes on, to fill and to look into."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from bench.orders import SECRET
from bench.stage import Stage, python
from promgithub.broker import NEVER
from shared.broker import Broker
from shared.delivery import Delivery
from shared.rabbitmq import RabbitBroker, Topology
from shared.spool import SpoolBroker
from tests.processes import Process
from tests.servers.rabbitmq import remove_queue

_SIZE = 1_000_000
_DELIVERY_LIMIT = 20
_FILLED_AT_ONCE = 256
_CONNECT_SECONDS = 30.0


class Queue(ABC):
    """A queue, empty to begin with. `name` says which broker it is of."""

    name: ClassVar[str]

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @abstractmethod
    def start_receiver(self) -> Process:
        """Start a receiver that puts deliveries into the queue."""

    @abstractmethod
    def start_processor(self, database_url: str, **settings: str) -> Process:
        """Start a processor that takes deliveries from the queue."""

    @abstractmethod
    def consumer(self, deliveries: int) -> list[str]:
        """Return the command that takes so many deliveries and does nothing with them."""

    @abstractmethod
    def broker(self) -> Broker:
        """Return the queue as promgithub sees it, not connected."""

    async def fill(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries into the queue."""
        left = iter(deliveries)

        async def publish_some(broker: Broker) -> None:
            for delivery in left:
                await broker.publish(delivery)

        async with self._connected() as broker:
            await asyncio.gather(*(publish_some(broker) for _ in range(_FILLED_AT_ONCE)))

    async def depth(self) -> int:
        """Return how many deliveries are in the queue, which no process may be using."""
        async with self._connected() as broker:
            return (await broker.depths()).ready

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Broker]:
        broker = self.broker()
        await broker.start()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                while not broker.available:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.02)
            yield broker
        finally:
            await broker.close()


class RabbitQueue(Queue):
    """A quorum queue of RabbitMQ."""

    name = "RabbitMQ"

    def __init__(self, stage: Stage, url: str) -> None:
        super().__init__(stage)
        self.url = url
        self.queue = f"bench.{secrets.token_hex(6)}"

    @property
    def settings(self) -> dict[str, str]:
        """The settings that name the queue."""
        return {"AMQP_URL": self.url, "QUEUE_NAME": self.queue}

    def start_receiver(self) -> Process:
        """Start `promgithub ingest`."""
        return self.stage.start("ingest", WEBHOOK_SECRET=SECRET, **self.settings)

    def start_processor(self, database_url: str, **settings: str) -> Process:
        """Start `promgithub processor`."""
        return self.stage.start("processor", DATABASE_URL=database_url, **self.settings, **settings)

    def consumer(self, deliveries: int) -> list[str]:
        """Return the command of the bare consumer."""
        return python("bench.consumer", "rabbitmq", self.url, self.queue, str(deliveries))

    def broker(self) -> Broker:
        """Return RabbitMQ."""
        return RabbitBroker(self.url, Topology(self.queue, _SIZE, _DELIVERY_LIMIT), "bench")


class SpoolQueue(Queue):
    """A spool in a directory of its own; one process at a time uses it."""

    name = "spool"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.directory: Path = stage.new_directory()

    def start_receiver(self) -> Process:
        """Start the receiver of `promgithub standalone`, without its processor."""
        return self.stage.start_module("bench.roles", "spool-receiver", str(self.directory))

    def start_processor(self, database_url: str, **settings: str) -> Process:
        """Start the processor of `promgithub standalone`, without its receiver."""
        return self.stage.start_module(
            "bench.roles", "spool-processor", str(self.directory), DATABASE_URL=database_url, **settings
        )

    def consumer(self, deliveries: int) -> list[str]:
        """Return the command of the bare consumer."""
        return python("bench.consumer", "spool", str(self.directory), "", str(deliveries))

    def broker(self) -> Broker:
        """Return the spool."""
        return SpoolBroker(self.directory, _SIZE, NEVER)


@asynccontextmanager
async def rabbit_queue(stage: Stage) -> AsyncIterator[RabbitQueue]:
    """Give a queue of RabbitMQ, which is deleted afterwards."""
    queue = RabbitQueue(stage, (await stage.rabbit()).url)
    try:
        yield queue
    finally:
        await remove_queue(queue.url, queue.queue)


@asynccontextmanager
async def spool_queue(stage: Stage) -> AsyncIterator[SpoolQueue]:
    """Give a spool, which is deleted with the files of the run."""
    yield SpoolQueue(stage)


QUEUES = (rabbit_queue, spool_queue)
"""Both brokers."""
