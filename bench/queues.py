"""The two brokers for benchmarks: a private queue that can be filled, inspected, and used by processes."""

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from bench.orders import SECRET
from bench.stage import Stage, python
from shared.brokers.interface import NO_DELIVERY_LIMIT, Broker
from shared.brokers.rabbitmq import RabbitBroker, Topology
from shared.brokers.spool import SpoolBroker
from shared.delivery import Delivery
from shared.settings import SPOOL_MAX_BYTES
from tests.support.processes import PROMGITHUB, Process
from tests.support.servers.rabbitmq import remove_queue

_SIZE = 1_000_000
_DELIVERY_LIMIT = 20
_FILLED_AT_ONCE = 256
_CONNECT_SECONDS = 30.0


class Queue(ABC):
    """A queue that is empty at first. `name` is that of its broker."""

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
    def dead_letters(self, *arguments: str) -> list[str]:
        """Return a command `promgithub dead-letters` for the queue."""

    @abstractmethod
    def consumer(self, deliveries: int) -> list[str]:
        """Return the command of the bare consumer for `count` deliveries."""

    @abstractmethod
    def broker(self) -> Broker:
        """Return promgithub's broker of the queue, not connected yet."""

    async def fill(self, deliveries: Iterable[Delivery]) -> None:
        """Put deliveries into the queue."""
        left = iter(deliveries)

        async def publish_some(broker: Broker) -> None:
            for delivery in left:
                await broker.publish(delivery)

        async with self.connected() as broker:
            await asyncio.gather(*(publish_some(broker) for _ in range(_FILLED_AT_ONCE)))

    async def depth(self) -> int:
        """Return how many deliveries are in the queue, which no process may be using."""
        async with self.connected() as broker:
            return (await broker.depths()).ready

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Broker]:
        """Yield promgithub's broker of the queue, connected."""
        broker = self.broker()
        await broker.start()
        try:
            if not await broker.ready_within(_CONNECT_SECONDS):
                raise TimeoutError(f"{self.name} is not available after {_CONNECT_SECONDS:g} s")
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
        return {"AMQP_URL": self.url, "QUEUE_NAME": self.queue}

    def start_receiver(self) -> Process:
        return self.stage.start("ingest", WEBHOOK_SECRET=SECRET, **self.settings)

    def start_processor(self, database_url: str, **settings: str) -> Process:
        return self.stage.start("processor", DATABASE_URL=database_url, **self.settings, **settings)

    def dead_letters(self, *arguments: str) -> list[str]:
        variables = [f"PROMGITHUB_{name}={value}" for name, value in self.settings.items()]
        return ["env", *variables, PROMGITHUB, "dead-letters", *arguments]

    def consumer(self, deliveries: int) -> list[str]:
        return python("bench.consumer", "rabbitmq", self.url, self.queue, str(deliveries))

    def broker(self) -> Broker:
        return RabbitBroker(self.url, Topology(self.queue, _SIZE, _DELIVERY_LIMIT), "bench")


class SpoolQueue(Queue):
    """A spool in its own directory. One process at a time uses it."""

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

    def dead_letters(self, *arguments: str) -> list[str]:
        return [PROMGITHUB, "dead-letters", *arguments, "--spool-dir", str(self.directory)]

    def consumer(self, deliveries: int) -> list[str]:
        return python("bench.consumer", "spool", str(self.directory), "", str(deliveries))

    def broker(self) -> Broker:
        return SpoolBroker(self.directory, _SIZE, NO_DELIVERY_LIMIT, SPOOL_MAX_BYTES)


@asynccontextmanager
async def rabbit_queue(stage: Stage) -> AsyncIterator[RabbitQueue]:
    """Yield a queue of RabbitMQ; delete it afterwards."""
    queue = RabbitQueue(stage, (await stage.rabbit()).url)
    try:
        yield queue
    finally:
        await remove_queue(queue.url, queue.queue)


@asynccontextmanager
async def spool_queue(stage: Stage) -> AsyncIterator[SpoolQueue]:
    """Yield a spool. It is deleted with the files of the run."""
    yield SpoolQueue(stage)


QUEUES = (rabbit_queue, spool_queue)
"""Both brokers."""
