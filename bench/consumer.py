"""The ceiling of the processor: a consumer that only decodes and acknowledges deliveries.

`python -m bench.consumer rabbitmq URL QUEUE COUNT` uses the layer below aio-pika, and no code of promgithub's;
`… spool DIRECTORY "" COUNT` uses promgithub's own spool, which nothing else can read. Prints the rate, and the CPU
seconds for each delivery, as JSON.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import uvloop

from bench.drained import WARM_SHARE, Drained
from shared.brokers.interface import NO_DELIVERY_LIMIT
from shared.brokers.spool import SpoolBroker
from shared.settings import SPOOL_MAX_BYTES

_PREFETCH = 1000
_BATCH = 250
_LINGER = 0.02
_SIZE = 1_000_000


async def _rabbitmq(url: str, queue: str) -> AsyncIterator[int]:
    """Decode and acknowledge what is in a queue of RabbitMQ; yield how many were taken."""
    connection = await aio_pika.connect(url)
    channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
    await channel.basic_qos(prefetch_count=_PREFETCH)
    arrived: asyncio.Queue[Any] = asyncio.Queue()  # of what aiormq delivers, below aio-pika's costly messages
    await channel.basic_consume(queue, arrived.put)
    while True:
        messages = [await arrived.get()]
        while len(messages) < _BATCH and not arrived.empty():
            messages.append(arrived.get_nowait())
        for message in messages:
            msgspec.json.decode(message.body)
        await channel.basic_ack(messages[-1].delivery_tag or 0, multiple=True)
        yield len(messages)


async def _spool(directory: str, _unused: str) -> AsyncIterator[int]:
    """Decode and acknowledge what is in a spool; yield how many were taken."""
    broker = SpoolBroker(Path(directory), _SIZE, NO_DELIVERY_LIMIT, SPOOL_MAX_BYTES)
    await broker.start()
    consumer = await broker.consume(_PREFETCH)
    async for batch in consumer.batches(_BATCH, _LINGER):
        for delivery in batch.deliveries:
            msgspec.json.decode(delivery.body)
        await batch.ack()
        yield len(batch.deliveries)


async def _consume(taken: AsyncIterator[int], count: int) -> Drained:
    """Measure over all but the first tenth."""
    total, warm, began, cpu = 0, 0, time.perf_counter(), time.process_time()
    async for number in taken:
        total += number
        if not warm and total >= count * WARM_SHARE:
            warm, began, cpu = total, time.perf_counter(), time.process_time()
        if total >= count:
            break
    measured = total - warm
    return Drained(total, measured / (time.perf_counter() - began), (time.process_time() - cpu) / measured)


if __name__ == "__main__":
    kind, place, name, number = sys.argv[1:]
    consume = {"rabbitmq": _rabbitmq, "spool": _spool}[kind]
    drained = uvloop.run(_consume(consume(place, name), int(number)))
    sys.stdout.buffer.write(msgspec.json.encode(drained))
