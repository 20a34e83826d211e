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

import msgspec
import uvloop

from bench.deliveries import Editions
from bench.orders import SECRET, LoadOutcome, Order
from ingest.signature import sign
from shared.delivery import Delivery

_MADE_BEFOREHAND = 20_000
"""Maximum number of deliveries prepared in memory. The others of a longer order are generated while it is sent."""

_SECRET = SECRET.encode()
_LENGTH = b"content-length:"


def request(delivery: Delivery) -> bytes:
    """Return a delivery as GitHub would send it."""
    head = (
        "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        "User-Agent: GitHub-Hookshot/044aadd\r\n"
        f"X-GitHub-Delivery: {delivery.id}\r\nX-GitHub-Event: {delivery.event}\r\n"
        "X-GitHub-Hook-ID: 292430182\r\nX-GitHub-Hook-Installation-Target-ID: 79929171\r\n"
        "X-GitHub-Hook-Installation-Target-Type: repository\r\n"
        f"X-Hub-Signature-256: {sign(_SECRET, delivery.body)}\r\nContent-Length: {len(delivery.body)}\r\n\r\n"
    )
    return head.encode() + delivery.body


class Sending:
    """One order: the remaining deliveries, and the answers so far."""

    def __init__(self, order: Order, requests: Iterator[bytes]) -> None:
        self._order = order
        self._requests = requests
        self._idle: list[_LoadConnection] = []
        self._due: deque[float] = deque()
        self._answers: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._done = asyncio.Event()

    async def run(self) -> LoadOutcome:
        """Send everything and wait for every answer."""
        loop = asyncio.get_running_loop()
        for _ in range(self._order.connections):
            transport, connection = await loop.create_connection(
                lambda: _LoadConnection(self), "127.0.0.1", self._order.port
            )
            connection.transport = transport
            self._idle.append(connection)
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
        """Record an answer. The connection takes the next delivery unless it was closed (status 0)."""
        self._answers[status] += 1
        self._latencies.append(seconds)
        if status:
            self._idle.append(connection)
        if len(self._latencies) == self._order.deliveries:
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

    def send(self, data: bytes, due: float) -> None:
        self._due = due
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self._received[:end].lower().split(b"\r\n")
        length = next(int(line[len(_LENGTH) :]) for line in lines if line.startswith(_LENGTH))
        if len(self._received) >= end + 4 + length:
            status, self._received = int(self._received[9:12]), b""
            self._answered(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due is not None:
            self._answered(0)

    def close(self) -> None:
        self.transport.abort()

    def _answered(self, status: int) -> None:
        due, self._due = self._due, None
        if due is not None:
            self._sending.answered(self, status, time.perf_counter() - due)


async def _serve() -> None:
    editions = Editions()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        order = msgspec.json.decode(line, type=Order)
        requests: Iterator[bytes] = map(request, editions.take(order.deliveries))
        if order.deliveries <= _MADE_BEFOREHAND:
            requests = iter(list(requests))
        outcome = await Sending(order, requests).run()
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    gc.disable()
    uvloop.run(_serve())
