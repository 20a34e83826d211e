"""A GitHub client for tests: signs and sends deliveries, and scrapes the processes."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import aiohttp

from ingest.signature import sign
from promgithub.simulation.histories import History
from shared.delivery import Delivery
from tests.support import figures
from tests.support.figures import Figures
from tests.support.processes import Process

SECRET = "It's a Secret to Everybody"
"""The secret of GitHub's own example (GitHub docs, "Validating webhook deliveries")."""

_Result = TypeVar("_Result")

CONCURRENT = 32
"""Deliveries that are sent at the same time, unless a test wants more."""

PATIENCE = 10.0
"""GitHub's timeout of a delivery, in seconds (GitHub docs, "Handling webhook deliveries")."""

LONGEST_PAUSE = 1.0
"""Seconds before a delivery that was refused is sent again, at most."""

STILL_SECONDS = 1.0
"""Figures are final after this time without a change, in seconds."""


def headers(delivery: Delivery, secret: str = SECRET) -> dict[str, str]:
    """Return the headers that GitHub sends with a JSON delivery."""
    enterprise = {} if delivery.host is None else {"X-GitHub-Enterprise-Host": delivery.host}
    return enterprise | {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": delivery.id,
        "X-GitHub-Event": delivery.event,
        "X-GitHub-Hook-ID": "292430182",
        "X-GitHub-Hook-Installation-Target-ID": "79929171",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature-256": sign(secret.encode(), delivery.body),
    }


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that tells to send a delivery again: its status and `Retry-After`, and the seconds that it took."""

    status: int
    retry_after: str | None
    seconds: float


class GitHub:
    """A client that sends deliveries to a receiver and scrapes processes.

    `refusals` has every answer so far that was not a 2xx.
    """

    def __init__(self, concurrent: int = CONCURRENT) -> None:
        """`concurrent`: how many deliveries are sent at the same time, each over a connection of its own."""
        self.refusals: list[Refusal] = []
        connector = aiohttp.TCPConnector(limit=0)
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE), connector=connector)
        self._slots = asyncio.Semaphore(concurrent)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def send(self, receiver: Process, delivery: Delivery, secret: str = SECRET) -> int:
        """Send one delivery; return the answer's status, or 0 if the connection ended without one.

        Raises `TimeoutError` if it has neither been answered nor ended after `PATIENCE` seconds.
        """
        url = f"{receiver.service_url}/webhook"
        async with self._slots:
            began = time.monotonic()
            try:
                async with self._client.post(url, data=delivery.body, headers=headers(delivery, secret)) as answer:
                    await answer.read()
                    if answer.status >= 300:
                        seconds = time.monotonic() - began
                        self.refusals.append(Refusal(answer.status, answer.headers.get("Retry-After"), seconds))
                    return answer.status
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                return 0

    async def deliver(self, receiver: Process, delivery: Delivery, *, after: float = 0) -> int:
        """Wait `after` seconds, then send one delivery until it is accepted; return the number of refusals.

        GitHub redelivers like this on request.
        """
        await asyncio.sleep(after)
        refused, pause = 0, 0.05
        while await self.send(receiver, delivery) != 202:
            refused += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return refused

    async def deliver_all(self, receiver: Process, deliveries: Sequence[Delivery], *, over: float = 0) -> int:
        """Send deliveries, spread `over` so many seconds, until all are accepted; return how often one was not."""
        step = over / len(deliveries)
        sending = (self.deliver(receiver, delivery, after=i * step) for i, delivery in enumerate(deliveries))
        return sum(await asyncio.gather(*sending))

    async def send_over(self, receiver: Process, deliveries: Sequence[Delivery], seconds: float) -> Mapping[int, int]:
        """Send deliveries once, spread over so many seconds; return how often each status was answered."""

        async def send(after: float, delivery: Delivery) -> int:
            await asyncio.sleep(after)
            return await self.send(receiver, delivery)

        step = seconds / len(deliveries)
        return Counter(await asyncio.gather(*(send(i * step, one) for i, one in enumerate(deliveries))))

    async def send_all(self, receiver: Process, deliveries: Iterable[Delivery]) -> Mapping[int, int]:
        """Send deliveries, many at a time; return how often each status was answered."""
        return Counter(await asyncio.gather(*(self.send(receiver, delivery) for delivery in deliveries)))

    async def scrape(self, process: Process, accept: str = "text/plain") -> str:
        """Return what `/metrics` says."""
        async with self._client.get(f"{process.admin_url}/metrics", headers={"Accept": accept}) as answer:
            assert answer.status == 200
            return await answer.text()

    async def figures(self, *processes: Process) -> Figures:
        """Return the sums over what processes expose, as `sum()` in a query would."""
        sums: dict[figures.Sample, float] = {}
        for text in await asyncio.gather(*(self.scrape(process) for process in processes)):
            for sample, value in figures.of_text(text).items():
                sums[sample] = sums.get(sample, 0) + value
        return sums

    async def drained(self, *processors: Process, processed: int, within: float = 60) -> Figures:
        """Wait until processors have together counted so many deliveries, duplicates included; return their figures."""

        async def done() -> Figures | None:
            counted = await self.figures(*processors)
            names = ("promgithub_event_processed_total", "promgithub_duplicate_deliveries_dropped_total")
            return counted if sum(figures.total(counted, name) for name in names) >= processed else None

        return await until(done, within)

    async def settled(self, truth: History, *processors: Process, within: float = 60) -> Figures:
        """Wait until processors have emptied the queue and expose the truth, and go on to; return their figures.

        Raises `AssertionError` with what differs.
        """
        counted: Figures = {}

        async def done() -> bool | None:
            nonlocal counted
            counted = await self.figures(*processors)
            empty = counted.get(("promgithub_event_queue_depth", frozenset())) == 0
            return (empty and figures.of_ci(counted) == truth.truth.at_once) or None

        try:
            await until(done, within)
            await asyncio.sleep(STILL_SECONDS)
            counted = await self.figures(*processors)
        except TimeoutError:
            pass
        figures.assert_equal(figures.of_ci(counted), truth.truth.at_once)
        return counted


async def until(condition: Callable[[], Awaitable[_Result | None]], within: float) -> _Result:
    """Return what `condition` returns as soon as it is not None. Raises `TimeoutError` after `within` seconds."""
    async with asyncio.timeout(within):
        while (result := await condition()) is None:  # noqa: ASYNC110 - it is in other processes
            await asyncio.sleep(0.1)
        return result
