"""A receiver in the process of the test, on real sockets and a real RabbitMQ."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aio_pika.abc import AbstractIncomingMessage

from ingest.receiver import Receiver
from ingest.signature import sign
from processor.counting.events import COUNTED
from shared.brokers.choice import outage_spool, shared_broker
from shared.settings import IngestSettings
from tests.support import figures
from tests.support.figures import Figures
from tests.support.github import SECRET, until
from tests.support.servers.ports import free_port
from tests.support.servers.rabbitmq import take_all

GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
PAYLOAD = b'{"action":"queued", "name":"na\xc3\xafve"}'
TIMEOUT = 15.0
"""Seconds that any step of a test may take; reading a body may take the receiver 10."""


def github_headers(body: bytes, *, secret: str = SECRET, **changed: str | None) -> dict[str, str]:
    """Return the headers that GitHub sends with a body; those given replace them, None leaves one out."""
    headers: dict[str, str | None] = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": GUID,
        "X-GitHub-Event": "workflow_job",
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature-256": sign(secret.encode(), body),
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return {name: value for name, value in headers.items() if value is not None}


def request_bytes(**further: str) -> bytes:
    """Return a delivery as it goes over the wire, with further headers; the last bytes are the payload."""
    headers = {"Host": "localhost", "Content-Length": str(len(PAYLOAD))} | github_headers(PAYLOAD) | further
    lines = ["POST /webhook HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + PAYLOAD


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    said: Mapping[str, str]


class Running:
    def __init__(self, settings: IngestSettings, client: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.service_url = f"http://127.0.0.1:{settings.service_port}"
        self.admin_url = f"http://127.0.0.1:{settings.admin_port}"
        self._client = client

    async def send(
        self,
        body: bytes = PAYLOAD,
        *,
        method: str = "POST",
        path: str = "/webhook",
        secret: str = SECRET,
        chunked: bool = False,
        **changed: str | None,
    ) -> Answered:
        """Send a delivery; return the answer, which is one line of JSON whatever happens."""
        headers = github_headers(body, secret=secret, **changed)
        skipped = frozenset(["Content-Type"])  # or aiohttp would add one where a test wants none
        data: Any = _in_chunks(body) if chunked else body
        async with self._client.request(
            method, self.service_url + path, data=data, headers=headers, skip_auto_headers=skipped
        ) as response:
            text = await response.text()
            assert response.content_type == "application/json"
            assert text.endswith("\n")
            assert text.count("\n") == 1
            return Answered(response.status, response.headers, json.loads(text))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, to send what no client sends."""
        return await asyncio.open_connection("127.0.0.1", self.settings.service_port)

    async def take_all(self) -> list[AbstractIncomingMessage]:
        """Take every message from the queue, which nobody else uses; return them in the order of arrival."""
        return await take_all(self.settings.amqp_url.get_secret_value(), self.settings.queue_name)

    async def readiness(self) -> int:
        """Return the status of `/readyz`."""
        async with self._client.get(f"{self.admin_url}/readyz") as response:
            return response.status

    async def figures(self) -> Figures:
        """Return what `/metrics` says."""
        async with self._client.get(f"{self.admin_url}/metrics") as response:
            assert response.status == 200
            return figures.of_text(await response.text())

    async def outcomes(self) -> dict[str, float]:
        """Return how many requests ended with each outcome, those without any left out."""
        counted: dict[str, float] = {}
        for (name, labels), value in (await self.figures()).items():
            if name == "promgithub_webhook_requests_total" and value:
                outcome = dict(labels)["outcome"]
                counted[outcome] = counted.get(outcome, 0) + value
        return counted

    async def in_flight(self, expected: int) -> None:
        """Wait until so many requests are in flight."""

        async def reached() -> bool | None:
            return figures.value(await self.figures(), "promgithub_webhook_in_flight") == expected or None

        await until(reached, TIMEOUT)

    async def until_ready(self) -> None:
        """Wait until the broker is there."""

        async def reached() -> bool | None:
            return await self.readiness() == 200 or None

        await until(reached, TIMEOUT)


@asynccontextmanager
async def receiver(stop: asyncio.Event | None = None, **given: Any) -> AsyncIterator[Running]:
    """Run a receiver with these settings until the context ends or `stop` is set; yield once it listens."""
    defaults = {
        "webhook_secret": None if "webhook_secret_file" in given else SECRET,
        "service_host": "127.0.0.1",
        "service_port": free_port(),
        "admin_host": "127.0.0.1",
        "admin_port": free_port(),
    }
    settings = IngestSettings(**(defaults | given))
    stop = stop or asyncio.Event()
    running = asyncio.create_task(
        Receiver(settings, shared_broker(settings, "test"), outage_spool(settings), counted=COUNTED).run(stop)
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as client:
            await _until_listening(running, settings.service_port)
            yield Running(settings, client)
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await running


async def _until_listening(running: asyncio.Task[None], port: int) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not running.done():
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
    await running


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 256 * 1024):
        yield body[start : start + 256 * 1024]
