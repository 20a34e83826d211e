"""A receiver that stops answers the requests in progress, and is not ready any more."""

import asyncio
import json
import time

import aiohttp
import pytest

from tests.support.github import SECRET
from tests.support.processes import Launcher, Process
from tests.support.receiver import PAYLOAD, TIMEOUT, receiver, request_bytes


async def test_a_delivery_half_sent_when_the_stop_comes_is_accepted(amqp_url: str, queue_name: str) -> None:
    stop = asyncio.Event()
    async with receiver(stop, amqp_url=amqp_url, queue_name=queue_name) as running:
        await running.until_ready()
        reader, writer = await running.connect()
        writer.write(request_bytes()[:-3])
        await running.in_flight(1)
        stop.set()
        await asyncio.sleep(0.2)
        assert await running.readiness() == 503
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
        writer.write(PAYLOAD[-3:])
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert b"Connection: close" in answer
        writer.close()
    assert len(await running.take_all()) == 1


async def test_idle_connections_do_not_delay_the_stop(amqp_url: str, queue_name: str) -> None:
    stop = asyncio.Event()
    async with receiver(stop, amqp_url=amqp_url, queue_name=queue_name) as running:
        await running.until_ready()
        connections = [await running.connect() for _ in range(5)]
        for reader, writer in connections[1:]:
            writer.write(request_bytes())
            assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        began = time.monotonic()
        stop.set()
        for reader, writer in connections:
            async with asyncio.timeout(TIMEOUT):
                await reader.read()
            writer.close()
        assert time.monotonic() - began < 3


async def deliver_until_refused(process: Process) -> tuple[int, int]:
    """Send one delivery after the other until nobody listens; return how many were accepted and otherwise answered."""
    accepted = other = 0
    port = int(process.service_url.rpartition(":")[2])
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return accepted, other
        try:
            writer.write(request_bytes())
            line = await reader.readline()
        except ConnectionResetError:
            line = b""
        accepted += line.startswith(b"HTTP/1.1 202 ")
        other += not line.startswith(b"HTTP/1.1 202 ") and line != b""
        writer.close()


async def test_sigterm_under_load_loses_no_accepted_delivery_and_ends_in_time(
    launcher: Launcher, amqp_url: str, queue_name: str
) -> None:
    process = launcher.start("ingest", AMQP_URL=amqp_url, QUEUE_NAME=queue_name, WEBHOOK_SECRET=SECRET)
    await process.ready()
    senders = [asyncio.create_task(deliver_until_refused(process)) for _ in range(8)]
    await asyncio.sleep(0.5)
    assert await process.terminate() == 0
    counts = await asyncio.gather(*senders)
    assert sum(accepted for accepted, _ in counts) > 0
    assert sum(other for _, other in counts) == 0
    async with receiver(amqp_url=amqp_url, queue_name=queue_name) as running:
        await running.until_ready()
        assert len(await running.take_all()) >= sum(accepted for accepted, _ in counts)


async def test_the_log_tells_one_story_and_neither_secret_nor_payload(
    launcher: Launcher, amqp_url: str, queue_name: str
) -> None:
    process = launcher.start(
        "ingest", AMQP_URL=amqp_url, QUEUE_NAME=queue_name, WEBHOOK_SECRET=SECRET, LOG_LEVEL="debug"
    )
    await process.ready()
    url = f"{process.service_url}/webhook"
    async with aiohttp.ClientSession() as client:
        for number in range(50):
            async with client.post(
                url, data=f"payload-{number}", headers={"Content-Type": "application/json"}
            ) as answer:
                assert answer.status == 401
    reader, writer = await asyncio.open_connection("127.0.0.1", int(process.service_url.rpartition(":")[2]))
    writer.write(request_bytes())
    assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
    writer.close()
    await process.says("receiver started")
    await process.terminate()
    lines = [json.loads(line) for line in process.log.splitlines()]
    (started,) = [line for line in lines if line["event"] == "receiver started"]
    assert (started["secrets"], started["webhook"]) == (1, url)
    assert [line["delivery_id"] for line in lines if line["event"] == "accepted"] == [
        "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    ]
    warnings = [line for line in lines if line["level"] == "warning" and line["event"] == "refused"]
    assert 1 <= len(warnings) <= 3
    assert "payload-" not in process.log
    assert "queued" not in process.log
    assert SECRET not in process.log
