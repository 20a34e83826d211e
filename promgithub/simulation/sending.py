"""Sending deliveries as GitHub does, at fixed times whatever the answers take."""

import asyncio
import hashlib
import hmac
import json
import math
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from promgithub.simulation import payloads
from promgithub.simulation.errors import SimulationError
from shared.delivery import Delivery

CONNECTIONS = 256
"""Connections that are open at the same time."""

GITHUB_TIMEOUT = 10.0
"""Seconds after which GitHub gives a delivery up (GitHub docs, "Best practices for using webhooks")."""

REDELIVERED_AT_ONCE = 32
"""Refused deliveries that are sent again at the same time; half as many after each round with a refusal."""

LONGEST_PAUSE = 10.0
"""Seconds before another round of redelivery, at most, whatever Retry-After says."""

_FIRST_PAUSE = 0.5
_PROGRESS_SECONDS = 0.1


@dataclass(slots=True)
class Tally:
    """How it goes: answers by status (0: no answer), seconds to each answer, and what was not accepted.

    `retry_after` is the longest wait in seconds that a refusal of this round asked for.
    """

    answers: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    retry_after: float = 0.0

    def quantile(self, share: float, latest: int = 0) -> float:
        """Return the seconds within which this share of answers came, of the latest or all; 0 if none did."""
        ordered = sorted(self.latencies[-latest:])
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
    """Sends signed deliveries to one receiver, over at most `CONNECTIONS` connections at a time."""

    def __init__(self, client: aiohttp.ClientSession, url: str, secret: str) -> None:
        """`client` should reuse as many connections."""
        self._client = client
        self._url = url
        self._secret = secret.encode()
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def check(self) -> None:
        """Send a `ping`, as GitHub does when a webhook is made; it is counted as nothing.

        Raises `SimulationError` if nobody answers, if there is no webhook at the URL, or if the secret is another.
        """
        ping = Delivery(str(uuid.uuid4()), "ping", json.dumps(payloads.ping()).encode(), 0)
        try:
            status, _ = await self._post(ping)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SimulationError(
                f"{self._url}: the webhook cannot be reached ({error or type(error).__name__})"
            ) from None
        if status == 401:
            raise SimulationError(
                "the receiver does not accept the secret (401); takes the one that it was started with"
            )
        if 300 <= status < 400 or status in {404, 405}:
            raise SimulationError(f"{self._url}: no webhook there ({status}); takes http://host:8080/webhook")

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
                await asyncio.sleep(max(0.0, due - time.perf_counter()))  # also when late, or no answer would be read
                tasks.create_task(self._send(delivery, due, tally))
                progress(tally)
            while len(tally.latencies) < len(deliveries):
                await asyncio.sleep(_PROGRESS_SECONDS)
                progress(tally)
        return tally

    async def redeliver(self, tally: Tally, within: float) -> int:
        """Send what was refused, in rounds, until all is accepted or `within` seconds are over; return how many sends.

        Between rounds it waits as long as a refusal's Retry-After says, longer after each round that changed nothing,
        and at most `LONGEST_PAUSE`.
        """
        deadline = time.monotonic() + within
        longest = min(LONGEST_PAUSE, within / 4)
        sends, at_once, pause = 0, REDELIVERED_AT_ONCE, _FIRST_PAUSE
        while tally.refused and time.monotonic() < deadline:
            await asyncio.sleep(min(longest, max(pause, tally.retry_after)))
            again, tally.refused, tally.retry_after = tally.refused, [], 0.0
            sends += await self._round(again, at_once, deadline, tally)
            if tally.refused:
                at_once = max(1, at_once // 2)
            pause = 2 * pause if len(tally.refused) == len(again) else _FIRST_PAUSE
        return sends

    async def _round(self, deliveries: Sequence[Delivery], at_once: int, deadline: float, tally: Tally) -> int:
        left = iter(deliveries)

        async def send_some() -> int:
            sends = 0
            for delivery in left:
                if time.monotonic() < deadline:
                    await self._send(delivery, time.perf_counter(), tally)
                    sends += 1
                else:
                    tally.refused.append(delivery)
            return sends

        return sum(await asyncio.gather(*(send_some() for _ in range(at_once))))

    async def _send(self, delivery: Delivery, due: float, tally: Tally) -> None:
        try:
            async with self._slots:
                status, retry_after = await self._post(delivery)
        except (aiohttp.ClientError, TimeoutError, OSError):
            status, retry_after = 0, 0.0
        tally.answers[status] += 1
        tally.latencies.append(time.perf_counter() - due)
        if not 200 <= status < 300:
            tally.refused.append(delivery)
            tally.retry_after = max(tally.retry_after, retry_after)

    async def _post(self, delivery: Delivery) -> tuple[int, float]:
        """Return the status, and the seconds of Retry-After."""
        headers = self._headers(delivery)
        patience = aiohttp.ClientTimeout(total=GITHUB_TIMEOUT)
        async with self._client.post(
            self._url, data=delivery.body, headers=headers, timeout=patience, allow_redirects=False
        ) as answer:
            await answer.read()  # or the connection could not be used again
            asked = answer.headers.get("Retry-After", "")
            return answer.status, float(asked) if asked.isdecimal() else 0.0

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
