"""`POST /webhook`: verify, validate, publish, answer."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from ingest.metrics import ReceiverMetrics
from ingest.secrets import Secrets
from ingest.signature import verify
from ingest.validation import FORM, JSON, MAX_BODY, Invalid, make_delivery, parse_headers, parse_payload
from shared.broker import Publisher
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, MessageTooLarge, QueueFull
from shared.logs import get_logger

READ_TIMEOUT = 10.0
"""Seconds that a body may take to arrive; GitHub itself gives up after 10."""

RETRY_AFTER = "30"
"""Seconds after which a sender may try again."""

MAX_BYTES_IN_FLIGHT = 256 * 1024 * 1024
"""Bytes of bodies that are held at the same time; past that, requests are shed whatever their number."""

LARGE = 256 * 1024
"""Bytes from which a body is verified and validated in a thread, so that others are answered meanwhile."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, how the request is counted, and what the body says."""

    status: int
    outcome: str
    body: Mapping[str, str]


class Refusal(Exception):  # noqa: N818 - an answer, raised where the reason is found
    """An answer that ends the handling of a request."""

    def __init__(self, status: int, outcome: str, error: str) -> None:
        super().__init__(error)
        self.answer = Answer(status, outcome, {"error": error})


class Webhook:
    """Handles requests; holds no delivery longer than it takes to answer."""

    def __init__(self, publisher: Publisher, secrets: Secrets, metrics: ReceiverMetrics, max_in_flight: int) -> None:
        """`max_in_flight`: requests handled at the same time before others are shed."""
        self._publisher = publisher
        self._secrets = secrets
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._bytes = 0

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request and count the answer."""
        began = time.perf_counter()
        event = request.headers.get("X-GitHub-Event", "")
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            answer = await self._answer(request)
        except Refusal as refusal:
            answer = refusal.answer
            _log_refusal(request, answer)
        except ConnectionError:
            answer = Answer(400, "bad_request", {"error": "the connection was lost before the body had arrived"})
        except Exception:  # noqa: BLE001 - the last resort of a server
            # GitHub shows a 503 as failed, so the delivery can be found and sent again.
            _log.exception("a delivery could not be handled", delivery_id=request.headers.get("X-GitHub-Delivery"))
            answer = Answer(503, "broker_down", {"error": "internal error; try again"})
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)
        self._metrics.answered(event, answer.outcome)
        self._metrics.ack.observe(time.perf_counter() - began)
        return respond(answer)

    async def _answer(self, request: web.Request) -> Answer:
        content_type = _content_type(request)
        if self._in_flight > self._max_in_flight or self._bytes > MAX_BYTES_IN_FLIGHT:
            raise Refusal(503, "shed", "too many deliveries in flight; try again")
        body = await self._read(request)
        self._bytes += len(body)
        try:
            if len(body) > LARGE:
                delivery = await asyncio.to_thread(self._checked, request.headers, content_type, body)
            else:
                delivery = self._checked(request.headers, content_type, body)
            if delivery.event == "ping":
                return Answer(200, "pong", {"status": "pong", "delivery": delivery.id})
            await self._publish(delivery)
        finally:
            self._bytes -= len(body)
        _log.debug("accepted", delivery_id=delivery.id, event_type=delivery.event)
        return Answer(202, "accepted", {"status": "accepted", "delivery": delivery.id})

    async def _read(self, request: web.Request) -> bytes:
        if request.content_length is not None and request.content_length > MAX_BODY:
            raise _too_large()
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise _too_large() from None
        except TimeoutError:
            raise Refusal(408, "bad_request", f"the body did not arrive within {READ_TIMEOUT:g} s") from None

    def _checked(self, headers: Mapping[str, str], content_type: str, body: bytes) -> Delivery:
        if not verify(self._secrets.current(), body, headers.get("X-Hub-Signature-256")):
            raise Refusal(401, "bad_signature", "X-Hub-Signature-256 is missing or was not made with the secret")
        try:
            named = parse_headers(headers)
            payload = parse_payload(body, content_type)
        except Invalid as invalid:
            raise Refusal(400, "bad_request", str(invalid)) from None
        return make_delivery(named, payload, headers, int(time.time() * 1000))

    async def _publish(self, delivery: Delivery) -> None:
        try:
            await self._publisher.publish(delivery)
        except QueueFull:
            raise Refusal(503, "queue_full", "the queue is full; try again") from None
        except BrokerUnavailable as error:
            raise Refusal(503, "broker_down", f"the broker takes no deliveries; try again ({error})") from None
        except MessageTooLarge as error:
            raise Refusal(413, "too_large", f"the broker takes no delivery of this size: {error}") from None


def respond(answer: Answer) -> web.Response:
    """Return the response: one line of JSON."""
    headers = {"Retry-After": RETRY_AFTER} if answer.status == 503 else None
    return web.Response(text=json.dumps(answer.body) + "\n", status=answer.status, content_type=JSON, headers=headers)


def _content_type(request: web.Request) -> str:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Refusal(415, "unsupported", "a Content-Encoding is not accepted: the signature covers the bytes as sent")
    if "Content-Type" not in request.headers or request.content_type not in {JSON, FORM}:
        raise Refusal(415, "unsupported", f"the content type must be {JSON} or {FORM}")
    return request.content_type


def _too_large() -> Refusal:
    return Refusal(413, "too_large", f"a delivery may have {MAX_BODY} bytes")


def _log_refusal(request: web.Request, answer: Answer) -> None:
    # Anybody can send what is not signed, as often as they like; that must not fill the log.
    log = _log.debug if answer.outcome in {"bad_signature", "unsupported", "shed"} else _log.warning
    log(
        "refused",
        delivery_id=request.headers.get("X-GitHub-Delivery", "")[:100],
        status=answer.status,
        outcome=answer.outcome,
        reason=answer.body["error"],
    )
