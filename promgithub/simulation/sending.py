"""Sends deliveries like GitHub, at fixed times that do not depend on the answers."""

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

from promgithub.simulation import github_payloads
from shared.delivery import Delivery
from shared.errors import SimulationError

CONNECTIONS = 256
"""Maximum number of open connections."""

GITHUB_TIMEOUT = 10.0
"""GitHub's timeout of a delivery, in seconds (GitHub docs, "Best practices for using webhooks")."""

REDELIVERED_AT_ONCE = 32
"""Number of refused deliveries that are resent at the same time. Each round with a refusal halves it."""

LONGEST_RESEND_PAUSE = 10.0
"""Maximum pause before the next round of redelivery, in seconds, even if Retry-After is longer."""

_FIRST_RESEND_PAUSE = 0.5
_PROGRESS_SECONDS = 0.1


@dataclass(slots=True)
class SendingStats:
    """Statistics: answers by status (0: no answer), the latency of each answer in seconds, and refused deliveries.

    `retry_after` is the longest Retry-After of this round, in seconds.
    """

    answers: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    refused: list[Delivery] = field(default_factory=list)
    retry_after: float = 0.0

    def quantile(self, share: float, latest: int = 0) -> float:
        """Return a quantile of the latencies in seconds: of the `latest` ones, or of all if that is 0."""
        ordered = sorted(self.latencies[-latest:])
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0


def arrange(deliveries: Sequence[Delivery], duplicates: float, disorder: float, seed: int) -> list[Delivery]:
    """Duplicate a share of the deliveries, and displace each by up to `disorder` times their number.

    A duplicate may be anywhere after the original.
    """
    chance = random.Random(seed)  # noqa: S311 - made to be repeated
    repeated = chance.sample(range(len(deliveries)), round(duplicates * len(deliveries)))
    places = [(place, one) for place, one in enumerate(deliveries)]
    places += [(chance.randrange(place, len(deliveries)), deliveries[place]) for place in repeated]
    reach = disorder * len(deliveries)
    keyed = sorted(((place + chance.uniform(0, reach), turn) for turn, (place, _) in enumerate(places)))
    return [places[turn][1] for _, turn in keyed]


class Sender:
    """Sends signed deliveries to one receiver, over at most `CONNECTIONS` connections at a time."""

    def __init__(self, client: aiohttp.ClientSession, url: str, secret: str) -> None:
        """`client` should allow `CONNECTIONS` connections."""
        self._client = client
        self._url = url
        self._secret = secret.encode()
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def check(self) -> None:
        """Send a `ping`, as GitHub does when a webhook is created. It changes no metric about CI.

        Raises `SimulationError` if there is no answer, if it is not promgithub's, or if the secret is wrong.
        """
        ping = Delivery(str(uuid.uuid4()), "ping", json.dumps(github_payloads.ping()).encode(), 0)
        try:
            status, answer, _ = await self._post(ping)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SimulationError(
                f"{self._url}: the webhook cannot be reached ({error or type(error).__name__}); "
                "start promgithub, or correct the URL"
            ) from None
        if status == 401:
            raise SimulationError("the receiver does not accept the secret (401); takes the receiver's own secret")
        if 300 <= status < 400 or status in {404, 405}:
            raise SimulationError(f"{self._url}: no webhook there ({status}); takes http://host:8080/webhook")
        if status != 200 or b'"pong"' not in answer:
            raise SimulationError(
                f"{self._url}: the answer to a ping is not promgithub's ({status}); takes http://host:8080/webhook, "
                "and a proxy in front of it must pass the answer on"
            )

    async def play(
        self, deliveries: Sequence[Delivery], rate: float, burst: int, progress: Callable[[SendingStats], None]
    ) -> SendingStats:
        """Send the first `burst` deliveries at once and the others at `rate` per second; return the statistics.

        This is an open loop: the times are fixed in advance, and latencies are measured from these times. A slow
        receiver therefore increases the latency and does not lower the rate.
        """
        stats = SendingStats()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for place, delivery in enumerate(deliveries):
                due = began + max(0, place - burst) / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))  # if late, sleep(0) lets answers be read
                tasks.create_task(self._send(delivery, due, stats))
                progress(stats)
            while len(stats.latencies) < len(deliveries):
                await asyncio.sleep(_PROGRESS_SECONDS)
                progress(stats)
        return stats

    async def redeliver(self, stats: SendingStats, within: float) -> int:
        """Resend refused deliveries in rounds, for at most `within` seconds; return the number of requests.

        Between rounds it waits for the longest Retry-After, at most `LONGEST_RESEND_PAUSE`. After each round without a
        success, the pause doubles.
        """
        deadline = time.monotonic() + within
        longest = min(LONGEST_RESEND_PAUSE, within / 4)
        sends, at_once, pause = 0, REDELIVERED_AT_ONCE, _FIRST_RESEND_PAUSE
        while stats.refused and time.monotonic() < deadline:
            await asyncio.sleep(min(longest, max(pause, stats.retry_after)))
            again, stats.refused, stats.retry_after = stats.refused, [], 0.0
            sends += await self._round(again, at_once, deadline, stats)
            if stats.refused:
                at_once = max(1, at_once // 2)
            pause = 2 * pause if len(stats.refused) == len(again) else _FIRST_RESEND_PAUSE
        return sends

    async def _round(self, deliveries: Sequence[Delivery], at_once: int, deadline: float, stats: SendingStats) -> int:
        left = iter(deliveries)

        async def send_some() -> int:
            sends = 0
            for delivery in left:
                if time.monotonic() < deadline:
                    await self._send(delivery, time.perf_counter(), stats)
                    sends += 1
                else:
                    stats.refused.append(delivery)
            return sends

        return sum(await asyncio.gather(*(send_some() for _ in range(at_once))))

    async def _send(self, delivery: Delivery, due: float, stats: SendingStats) -> None:
        try:
            async with self._slots:
                status, _, retry_after = await self._post(delivery)
        except (aiohttp.ClientError, TimeoutError, OSError):
            status, retry_after = 0, 0.0
        stats.answers[status] += 1
        stats.latencies.append(time.perf_counter() - due)
        if not 200 <= status < 300:
            stats.refused.append(delivery)
            stats.retry_after = max(stats.retry_after, retry_after)

    async def _post(self, delivery: Delivery) -> tuple[int, bytes, float]:
        """Return the status, the body, and the seconds of Retry-After."""
        headers = self._headers(delivery)
        patience = aiohttp.ClientTimeout(total=GITHUB_TIMEOUT)
        async with self._client.post(
            self._url, data=delivery.body, headers=headers, timeout=patience, allow_redirects=False
        ) as answer:
            body = await answer.read()  # also so that the connection can be reused
            asked = answer.headers.get("Retry-After", "")
            return answer.status, body, float(asked) if asked.isdecimal() else 0.0

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
