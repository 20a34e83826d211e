"""The load generator, a separate process. It reads orders from standard input, and answers each with a line.

It must use less CPU than the receiver. Therefore it prepares the requests in advance, and reads only the status and the
length of each answer.
"""

import asyncio
import gc
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import cycle, islice

import msgspec
import uvloop
from yarl import URL

from bench.deliveries import Editions
from bench.orders import LoadOutcome, Order
from ingest.signature import sign
from shared.delivery import Delivery

_MADE_BEFOREHAND = 20_000
"""Maximum number of deliveries prepared in memory. The others of a longer order are generated while it is sent."""

_LENGTH = b"content-length:"
_CHUNKED = b"transfer-encoding: chunked"
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def request(delivery: Delivery, url: URL, secret: bytes) -> bytes:
    """Return a delivery as GitHub would send it."""
    head = (
        f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        "User-Agent: GitHub-Hookshot/044aadd\r\n"
        f"X-GitHub-Delivery: {delivery.id}\r\nX-GitHub-Event: {delivery.event}\r\n"
        "X-GitHub-Hook-ID: 292430182\r\nX-GitHub-Hook-Installation-Target-ID: 79929171\r\n"
        "X-GitHub-Hook-Installation-Target-Type: repository\r\n"
        f"X-Hub-Signature-256: {sign(secret, delivery.body)}\r\nContent-Length: {len(delivery.body)}\r\n\r\n"
    )
    return head.encode() + delivery.body


class Sending:
    """One order: the remaining deliveries, and the answers so far."""

    def __init__(self, order: Order, requests: Iterator[bytes]) -> None:
        self._order = order
        self._requests = requests
        self._open = 0
        self._idle: list[_LoadConnection] = []
        self._due: deque[float] = deque()
        self._answers: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._done = asyncio.Event()

    async def run(self) -> LoadOutcome:
        """Send everything and wait for every answer."""
        loop, urls = asyncio.get_running_loop(), cycle(map(URL, (self._order.url, *self._order.others)))
        for url in islice(urls, self._order.connections):
            if url.host is None or url.port is None:
                raise ValueError(f"not the URL of a webhook: {url}")
            transport, connection = await loop.create_connection(lambda: _LoadConnection(self), url.host, url.port)
            connection.transport = transport
            self._idle.append(connection)
        self._open = len(self._idle)
        began = time.perf_counter()
        await self._release(began)
        await self._done.wait()
        seconds = time.perf_counter() - began
        for connection in self._idle:
            connection.close()
        return self._outcome(seconds)

    async def _release(self, began: float) -> None:
        """Release deliveries when they are due, or all at once."""
        if self._order.rate is None:
            self._due.extend([math.inf] * self._order.deliveries)
            self._send()
            return
        for place in range(self._order.deliveries):
            due = began + place / self._order.rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._due.append(due)
            self._send()

    def _send(self) -> None:
        while self._due and self._idle:
            due = self._due.popleft()
            connection = self._idle.pop()
            data = next(self._requests)
            connection.send(data, min(due, time.perf_counter()))

    def answered(self, connection: "_LoadConnection", status: int, seconds: float) -> None:
        """Record an answer. The connection takes the next delivery."""
        self._idle.append(connection)
        self._record(status, seconds)

    def closed(self, connection: "_LoadConnection", seconds: float | None) -> None:
        """Record that the receiver closed a connection, and for how long a delivery had waited on it, if one had."""
        self._open -= 1
        if seconds is None:
            self._idle.remove(connection)
        else:
            self._record(0, seconds)

    def _record(self, status: int, seconds: float) -> None:
        self._answers[status] += 1
        self._latencies.append(seconds)
        if not self._open or len(self._latencies) == self._order.deliveries:
            self._done.set()
        else:
            self._send()

    def _outcome(self, seconds: float) -> LoadOutcome:
        ordered = sorted(self._latencies)
        p50, p99, p999, worst = (
            1000 * ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.99, 0.999, 1.0)
        )
        return LoadOutcome(self._answers, seconds, p50, p99, p999, worst)


class _LoadConnection(asyncio.Protocol):
    """A connection with at most one request in progress."""

    transport: asyncio.Transport

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._received = b""
        self._due: float | None = None
        self._closing = False

    def send(self, data: bytes, due: float) -> None:
        self._due = due
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._received[:end].lower().split(b"\r\n")
        if _CHUNKED in lines:
            complete = self._received.endswith(_LAST_CHUNK)
        else:
            length = next((int(line[len(_LENGTH) :]) for line in lines if line.startswith(_LENGTH)), 0)
            complete = len(self._received) >= end + 4 + length
        if complete:
            status, self._received = int(self._received[9:12]), b""
            seconds = self._waited()
            if seconds is not None:
                self._sending.answered(self, status, seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._sending.closed(self, self._waited())

    def close(self) -> None:
        self._closing = True
        self.transport.abort()

    def _waited(self) -> float | None:
        """Return how long the delivery in progress has waited for its answer, or None without one; end it."""
        due, self._due = self._due, None
        return None if due is None else time.perf_counter() - due


async def _serve() -> None:
    editions = Editions()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        order = msgspec.json.decode(line, type=Order)
        url, secret = URL(order.url), order.secret.encode()
        requests: Iterator[bytes] = (request(one, url, secret) for one in editions.take(order.deliveries))
        if order.deliveries <= _MADE_BEFOREHAND:
            requests = iter(list(requests))
        outcome = await Sending(order, requests).run()
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(_serve())
