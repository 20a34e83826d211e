"""`POST /webhook`: verify, validate, hand over, answer."""

import asyncio
import time

from aiohttp import web

from ingest import answers
from ingest.answers import RETRY_AFTER, Answer, Outcome, Refusal
from ingest.bodies import Bodies
from ingest.intake import Intake
from ingest.journal import Journal
from ingest.metrics import ReceiverMetrics
from ingest.secrets import Secrets
from ingest.signature import verify
from ingest.validation import JSON, content_type, read_delivery
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, MessageTooLarge, QueueFull
from shared.logs import get_logger
from shared.waiting import is_set_within

PATH = "/webhook"

LARGE = 1024 * 1024
"""Bytes from which a body is verified and validated in a thread, so that others are answered meanwhile."""

_log = get_logger(__name__)


class Webhook:
    """Handles requests; holds no delivery longer than it takes to answer."""

    def __init__(self, intake: Intake, secrets: Secrets, max_in_flight: int) -> None:
        """`max_in_flight`: requests handled at the same time before others are shed."""
        self._intake = intake
        self._secrets = secrets
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._bodies = Bodies()
        self._journal = Journal()
        self.metrics = ReceiverMetrics(lambda: intake.broker_up, lambda: self._in_flight)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request, and count the answer, whether or not its sender still waits for it."""
        began = time.perf_counter()
        self._in_flight += 1
        try:
            answer = await self._answer(request)
        except Refusal as refusal:
            answer = self._refused(request, refusal)
        except Exception:  # noqa: BLE001 - the last resort of a server
            # GitHub lists a 503 as failed, so that the delivery can be found and sent again.
            self._journal.failed(request.headers)
            answer = Refusal(503, Outcome.BROKER_DOWN, "the receiver failed; try again").answer
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        if answer.status == 202:
            self.metrics.ack.observe(time.perf_counter() - began)
        return self._response(request, answer)

    def refuse(self, request: web.BaseRequest, refusal: Refusal) -> web.Response:
        """Answer a request that cannot be handled, and count the answer."""
        return self._response(request, self._refused(request, refusal))

    async def drain(self, seconds: float) -> None:
        """Wait until every request in flight is answered, at most so long; connections close with their answers."""
        self._draining = True
        self._idle.clear()
        if self._in_flight and not await is_set_within(self._idle, seconds):
            _log.warning("requests took too long to stop and get no answer", in_flight=self._in_flight)

    def _refused(self, request: web.BaseRequest, refusal: Refusal) -> Answer:
        self._journal.refused(refusal, request.headers)
        return refusal.answer

    def _response(self, request: web.BaseRequest, answer: Answer) -> web.Response:
        self.metrics.count(request.headers.get("X-GitHub-Event"), answer.outcome)
        headers = {"Content-Type": JSON, "Server": "promgithub"}
        if answer.status == 503:
            headers["Retry-After"] = RETRY_AFTER[answer.outcome]
        if answer.status == 405:
            headers["Allow"] = "POST"
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if self._draining or not request.content.is_eof():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        _check_route(request)
        kind = content_type(request.headers)
        if self._in_flight > self._max_in_flight:
            raise Refusal(503, Outcome.SHED, "too many deliveries in flight; try again")
        self._bodies.admit(request.content_length)
        await _ask_for_body(request)
        body = await self._bodies.read(request.content)
        try:
            delivery = await self._checked(request, kind, body)
            if delivery.event == "ping":
                return answers.pong(delivery.id)
            return answers.taken(delivery.id, await self._take(delivery))
        finally:
            self._bodies.release(body)

    async def _checked(self, request: web.BaseRequest, kind: str, body: bytes) -> Delivery:
        received_at = time.time_ns() // 1_000_000
        secrets = self._secrets.current()

        def check() -> Delivery:
            if not verify(secrets, body, request.headers.get("X-Hub-Signature-256")):
                raise Refusal(
                    401,
                    Outcome.BAD_SIGNATURE,
                    "X-Hub-Signature-256 must be the HMAC-SHA256 of the body with the webhook's secret",
                )
            return read_delivery(request.headers, kind, body, received_at)

        return await asyncio.to_thread(check) if len(body) > LARGE else check()

    async def _take(self, delivery: Delivery) -> Outcome:
        try:
            how = await self._intake.take(delivery)
        except QueueFull:
            raise Refusal(503, Outcome.QUEUE_FULL, "the queue is full; try again") from None
        except BrokerUnavailable as error:
            raise Refusal(503, Outcome.BROKER_DOWN, f"the broker takes no deliveries; try again ({error})") from None
        except MessageTooLarge as error:
            raise Refusal(413, Outcome.TOO_LARGE, f"the broker takes no delivery of this size ({error})") from None
        self._journal.taken(delivery.id, delivery.event, how)
        return how


def _check_route(request: web.BaseRequest) -> None:
    if request.path != PATH:
        raise Refusal(404, Outcome.UNSUPPORTED, f"only POST {PATH} is accepted")
    if request.method != "POST":
        raise Refusal(405, Outcome.UNSUPPORTED, f"only POST {PATH} is accepted")


async def _ask_for_body(request: web.BaseRequest) -> None:
    """Tell a sender that waits for it to go on (RFC 9110 section 10.1.1); a refused one need not send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
