"""`POST /webhook`: verify, validate, publish, answer."""

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web

from ingest.bodies import Bodies
from ingest.intake import Intake
from ingest.journal import Journal
from ingest.outcomes import Answer, Refusal, RequestOutcome, pong, taken
from ingest.receiver_metrics import ReceiverMetrics
from ingest.responses import response
from ingest.secrets import Secrets
from ingest.signature import verify
from ingest.validation import content_type, read_delivery
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, MessageTooLarge, QueueFull
from shared.logs import get_logger
from shared.waiting import is_set_within

PATH = "/webhook"

LARGE_BODY = 1024 * 1024
"""Larger bodies, in bytes, are verified and validated in a thread, so that they do not block other requests."""

_log = get_logger(__name__)


class Webhook:
    """Handles requests. Keeps no delivery in memory after the answer."""

    def __init__(
        self,
        intake: Intake,
        secrets: Secrets,
        max_in_flight: int,
        counted: Iterable[str],
    ) -> None:
        """`max_in_flight`: requests handled at the same time before others are shed; `counted`: see `Receiver`."""
        self._intake = intake
        self._secrets = secrets
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._bodies = Bodies()
        self._journal = Journal()
        self.metrics = ReceiverMetrics(lambda: intake.broker_up, lambda: self._in_flight, intake.figures, counted)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and count the answer, even if the client has disconnected."""
        began = time.perf_counter()
        self._in_flight += 1
        try:
            answer = await self._answer(request)
        except Refusal as refusal:
            answer = self._refused(request, refusal)
        except Exception:  # noqa: BLE001 - the server must answer every request
            # GitHub lists a 503 as a failed delivery, so that it can be redelivered.
            self._journal.failed(request.headers)
            answer = Refusal(503, RequestOutcome.BROKER_DOWN, "the receiver failed; try again").answer
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        if answer.status == 202:
            self.metrics.ack.observe(time.perf_counter() - began)
        return self._response(request, answer)

    def refuse(self, request: web.BaseRequest, refusal: Refusal) -> web.StreamResponse:
        """Answer a request that cannot be handled, and count the answer."""
        return self._response(request, self._refused(request, refusal))

    async def drain(self, seconds: float) -> None:
        """Wait at most `seconds` until all requests in progress are answered. Connections close after their answers."""
        self._draining = True
        self._idle.clear()
        if self._in_flight and not await is_set_within(self._idle, seconds):
            _log.warning("requests did not finish during shutdown and get no answer", in_flight=self._in_flight)

    def _refused(self, request: web.BaseRequest, refusal: Refusal) -> Answer:
        self._journal.refused(refusal, request.headers, request.remote)
        return refusal.answer

    def _response(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        self.metrics.count(request.headers.get("X-GitHub-Event"), answer.outcome)
        made = response(answer)
        if self._draining or not request.content.is_eof():
            made.force_close()
        return made

    async def _answer(self, request: web.BaseRequest) -> Answer:
        _check_route(request)
        kind = content_type(request.headers)
        if self._in_flight > self._max_in_flight:
            raise Refusal(503, RequestOutcome.SHED, "too many deliveries in flight; try again")
        self._bodies.admit(request.content_length)
        await _ask_for_body(request)
        body = await self._bodies.read(request.content)
        try:
            delivery = await self._checked(request, kind, body)
            if delivery.event == "ping":
                self._journal.pinged(request.headers, request.remote)
                return pong(delivery.id)
            return taken(delivery.id, await self._take(delivery))
        finally:
            self._bodies.release(body)

    async def _checked(self, request: web.BaseRequest, kind: str, body: bytes) -> Delivery:
        received_at = time.time_ns() // 1_000_000
        secrets = self._secrets.current()

        def check() -> Delivery:
            if not verify(secrets, body, request.headers.get("X-Hub-Signature-256")):
                raise Refusal(
                    401,
                    RequestOutcome.BAD_SIGNATURE,
                    "X-Hub-Signature-256 must be the HMAC-SHA256 of the body with the webhook's secret",
                )
            return read_delivery(request.headers, kind, body, received_at)

        return await asyncio.to_thread(check) if len(body) > LARGE_BODY else check()

    async def _take(self, delivery: Delivery) -> RequestOutcome:
        try:
            how = await self._intake.take(delivery)
        except QueueFull:
            raise Refusal(503, RequestOutcome.QUEUE_FULL, "the queue is full; try again") from None
        except BrokerUnavailable as error:
            raise Refusal(
                503, RequestOutcome.BROKER_DOWN, f"the broker accepts no deliveries; try again ({error})"
            ) from None
        except MessageTooLarge as error:
            raise Refusal(
                413, RequestOutcome.TOO_LARGE, f"the broker accepts no delivery of this size ({error})"
            ) from None
        self._journal.taken(delivery.id, delivery.event, how)
        return how


def _check_route(request: web.BaseRequest) -> None:
    if request.path != PATH:
        raise Refusal(404, RequestOutcome.UNSUPPORTED, f"only POST {PATH} is accepted")
    if request.method != "POST":
        raise Refusal(405, RequestOutcome.UNSUPPORTED, f"only POST {PATH} is accepted")


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Send `100 Continue` if the client expects it (RFC 9110 section 10.1.1). A refused client sends no body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
