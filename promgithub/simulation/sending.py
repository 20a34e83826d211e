"""Sending deliveries as GitHub does, at fixed times whatever the answers take."""

import asyncio
import hashlib
import hmac
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from shared.delivery import Delivery

CONNECTIONS = 256
"""Connections that are open at the same time."""

REDELIVERED_AT_ONCE = 2
"""Refused deliveries that are sent again at the same time: what was too much must not be too much again."""

GITHUB_TIMEOUT = 10.0
"""Seconds after which GitHub gives a delivery up (GitHub docs, "Best practices for using webhooks")."""


@dataclass(slots=True)
class Tally:
    """How it goes: answers by status (0: no answer), seconds to each answer, and what was not accepted."""

    answers: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of answers came; 0 if none did."""
        ordered = sorted(self.latencies)
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0


def arrange(deliveries: Sequence[Delivery], duplicates: float, disorder: float, seed: int) -> list[Delivery]:
    """Return deliveries as they arrive: a share of them twice, and each displaced by up to a share of their number."""
    chance = random.Random(seed)  # noqa: S311 - made to be repeated
    repeated = chance.sample(deliveries, round(duplicates * len(deliveries)))
    places = [(place, one) for place, one in enumerate(deliveries)]
    places += [(chance.randrange(len(deliveries)), one) for one in repeated]
    reach = disorder * len(deliveries)
    keyed = sorted(((place + chance.uniform(0, reach), turn) for turn, (place, _) in enumerate(places)))
    return [places[turn][1] for _, turn in keyed]


class Sender:
    """Sends signed deliveries to one receiver."""

    def __init__(self, client: aiohttp.ClientSession, url: str, secret: str) -> None:
        """`client` should allow `CONNECTIONS` connections."""
        self._client = client
        self._url = url
        self._secret = secret.encode()

    async def play(
        self, deliveries: Sequence[Delivery], rate: float, burst: int, progress: Callable[[Tally], None]
    ) -> Tally:
        """Send the first `burst` at once and the rest at `rate` a second; return how it went.

        Open loop: the times are fixed beforehand, and an answer's latency counts from then, so that a slow receiver
        shows as latency and not as a lower rate.
        """
        tally = Tally()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for place, delivery in enumerate(deliveries):
                due = began + max(0, place - burst) / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                tasks.create_task(self._send(delivery, due, tally))
                progress(tally)
        progress(tally)
        return tally

    async def redeliver(self, tally: Tally, within: float) -> int:
        """Send what was refused until all is accepted, at most so many seconds; return how many sends that took."""
        deadline = time.monotonic() + within
        sends = 0
        while tally.refused and time.monotonic() < deadline:
            await asyncio.sleep(1)
            again, tally.refused = tally.refused, []
            sends += len(again)
            for start in range(0, len(again), REDELIVERED_AT_ONCE):
                chunk = again[start : start + REDELIVERED_AT_ONCE]
                await asyncio.gather(*(self._send(one, time.perf_counter(), tally) for one in chunk))
        return sends

    async def try_first(self, delivery: Delivery) -> int:
        """Send one delivery; return the status. Raises what the client raises."""
        async with self._client.post(self._url, data=delivery.body, headers=self._headers(delivery)) as answer:
            return answer.status

    async def _send(self, delivery: Delivery, due: float, tally: Tally) -> None:
        try:
            status = await self.try_first(delivery)
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = 0
        tally.answers[status] += 1
        tally.latencies.append(time.perf_counter() - due)
        if not 200 <= status < 300:
            tally.refused.append(delivery)

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/promgithub-simulate",
            "X-GitHub-Delivery": delivery.id,
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Hook-ID": "292430182",
            "X-GitHub-Hook-Installation-Target-Type": "organization",
            "X-GitHub-Hook-Installation-Target-ID": "21031067",
            "X-Hub-Signature-256": f"sha256={hmac.new(self._secret, delivery.body, hashlib.sha256).hexdigest()}",
        }
