"""What goes over the wire as the answer to a delivery: its headers, and whether the connection stays open."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from tests.support.proxy import Proxy
from tests.support.receiver import PAYLOAD, TIMEOUT, Running, receiver, request_bytes
from tests.support.servers.ports import free_port

NOWHERE = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
"""The URL of a broker that is down."""

DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT")
"""RFC 9110 section 5.6.7."""

HTTP_1_0 = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Sockets:
    """A connection to the receiver, without an HTTP client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def response(self) -> Response:
        """Read one response, and no byte more than it says."""
        async with asyncio.timeout(TIMEOUT):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
            version, status, _ = line.split(" ", 2)
            names = [field.partition(": ")[0] for field in fields]
            headers = dict(field.split(": ", 1) for field in fields)
            assert version == "HTTP/1.1"
            assert len(set(names)) == len(names)
            return Response(int(status), headers, await self._reader.readexactly(int(headers["Content-Length"])))

    async def ends(self) -> None:
        """Wait for the end of the connection; nothing else may come."""
        async with asyncio.timeout(TIMEOUT):
            assert await self._reader.read() == b""


@asynccontextmanager
async def connected(running: Running) -> AsyncIterator[Sockets]:
    reader, writer = await running.connect()
    try:
        yield Sockets(reader, writer)
    finally:
        writer.close()


@pytest_asyncio.fixture(params=[202, 503])
async def answering(
    request: pytest.FixtureRequest, amqp_url: str, queue_name: str
) -> AsyncIterator[tuple[Running, int]]:
    """Give a receiver, and the status with which it answers each delivery."""
    status = request.param
    async with receiver(amqp_url=amqp_url if status == 202 else NOWHERE, queue_name=queue_name) as running:
        if status == 202:
            await running.until_ready()
        yield running, status


async def test_a_response_has_its_length_and_the_time_and_the_next_one_follows(answering: tuple[Running, int]) -> None:
    running, status = answering
    async with connected(running) as connection:
        dates = []
        for pause in (1.1, 0):  # the header changes with the second
            began = int(time.time())
            connection.writer.write(request_bytes())
            response = await connection.response()
            assert response.status == status
            assert set(response.headers) - {"Retry-After"} == {"Content-Type", "Server", "Content-Length", "Date"}
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Server"] == "promgithub"
            assert response.body.endswith(b"}\n")
            assert DATE.fullmatch(response.headers["Date"])
            dates.append(parsedate_to_datetime(response.headers["Date"]))
            assert began <= dates[-1].timestamp() <= time.time()
            await asyncio.sleep(pause)
    assert dates[0] < dates[1]


async def test_a_connection_that_the_client_wants_closed_is_closed(answering: tuple[Running, int]) -> None:
    running, status = answering
    async with connected(running) as connection:
        connection.writer.write(request_bytes(Connection="close"))
        response = await connection.response()
        assert (response.status, response.headers["Connection"]) == (status, "close")
        await connection.ends()


async def test_a_connection_of_http_1_0_is_closed_unless_the_client_keeps_it(answering: tuple[Running, int]) -> None:
    running, status = answering
    async with connected(running) as connection:
        for _ in range(2):
            connection.writer.write(request_bytes(Connection="keep-alive").replace(*HTTP_1_0))
            response = await connection.response()
            assert (response.status, response.headers["Connection"]) == (status, "keep-alive")
        connection.writer.write(request_bytes().replace(*HTTP_1_0))
        response = await connection.response()
        assert (response.status, response.headers["Connection"]) == (status, "close")
        await connection.ends()


async def test_pipelined_requests_are_answered_in_their_order(amqp_url: str, queue_name: str) -> None:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name) as running, connected(running) as connection:
        await running.until_ready()
        ids = [f"72d3162e-cc78-11e3-81ab-{number:012x}" for number in range(20)]
        requests = [request_bytes(**{"X-GitHub-Delivery": name}) for name in ids]
        requests[5] = request_bytes(**{"X-Hub-Signature-256": "sha256="})
        requests[11] = request_bytes(**{"X-GitHub-Delivery": "none"})

        connection.writer.write(b"".join(requests))
        responses = [await connection.response() for _ in requests]

        assert [response.status for response in responses] == [202] * 5 + [401] + [202] * 5 + [400] + [202] * 8
        for name, response in zip(ids, responses, strict=True):
            assert response.status != 202 or name.encode() in response.body


async def refused(running: Running) -> Response:
    async with connected(running) as connection:
        connection.writer.write(request_bytes())
        response = await connection.response()
        assert response.status == 503
        return response


async def test_each_reason_to_send_a_delivery_again_has_its_time(amqp_url: str, queue_name: str) -> None:
    async with receiver(amqp_url=NOWHERE, max_in_flight=1) as running:
        assert (await refused(running)).headers["Retry-After"] == "5"
        async with connected(running) as slow:
            slow.writer.write(request_bytes()[:-3])
            await running.in_flight(1)
            assert (await refused(running)).headers["Retry-After"] == "1"
    async with receiver(amqp_url=amqp_url, queue_name=queue_name, event_queue_size=1) as running:
        await running.until_ready()
        for _ in range(10):
            answered = await running.send()
        assert (answered.status, answered.headers["Retry-After"]) == (503, "30")
        async with connected(running) as connection:
            connection.writer.write(request_bytes(**{"X-GitHub-Event": "ping"}))
            assert "Retry-After" not in (await connection.response()).headers


async def test_a_delivery_that_is_shed_before_its_body_has_arrived_closes_its_connection() -> None:
    async with (
        receiver(amqp_url=NOWHERE, max_in_flight=1) as running,
        connected(running) as slow,
        connected(running) as other,
    ):
        slow.writer.write(request_bytes()[:-3])
        await running.in_flight(1)
        other.writer.write(request_bytes()[: -len(PAYLOAD)])
        response = await other.response()
        assert (response.status, response.headers["Connection"]) == (503, "close")


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_leaves_before_its_answer_causes_no_error(
    amqp_url: str, queue_name: str, caplog: pytest.LogCaptureFixture, reset: bool
) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    with caplog.at_level(logging.INFO), capture_logs() as logs:
        async with (
            Proxy(amqp_url) as proxy,
            receiver(amqp_url=proxy.url, queue_name=queue_name) as running,
        ):
            await running.until_ready()
            proxy.hold_answers()
            for _ in range(5):
                async with connected(running) as connection:
                    connection.writer.write(request_bytes())
                    await connection.writer.drain()
                    await running.in_flight(1)
                    if reset:
                        connection.writer.transport.abort()
                await proxy.heal()
                await running.in_flight(0)
                proxy.hold_answers()
            await proxy.heal()
            assert (await running.send()).status == 202
            assert await running.outcomes() == {"accepted": 6}

    assert errors == []
    assert caplog.records == []
    assert {line["log_level"] for line in logs} <= {"info", "debug"}
