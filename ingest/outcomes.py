"""The answers of the receiver, and the label value `outcome` of each. Pure."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class RequestOutcome(StrEnum):
    """How a request ended: a value of the label `outcome`."""

    ACCEPTED = "accepted"  # the broker has confirmed it
    SPOOLED = "spooled"  # on this receiver's disk, until the broker accepts it
    PONG = "pong"  # a ping event: answered, but not published
    BAD_REQUEST = "bad_request"  # invalid headers or payload, or an incomplete body
    BAD_SIGNATURE = "bad_signature"  # not signed with a configured secret
    TOO_LARGE = "too_large"  # larger than GitHub's limit or the broker's
    UNSUPPORTED = "unsupported"  # wrong path, method or content type
    SHED = "shed"  # too many requests or bytes in progress
    QUEUE_FULL = "queue_full"  # the queue has reached its limit
    BROKER_DOWN = "broker_down"  # the broker is unavailable or did not confirm


TAKEN = frozenset({RequestOutcome.ACCEPTED, RequestOutcome.SPOOLED, RequestOutcome.PONG})
"""The outcomes of deliveries that GitHub need not send again."""

RETRY_AFTER = {RequestOutcome.SHED: "1", RequestOutcome.BROKER_DOWN: "5", RequestOutcome.QUEUE_FULL: "30"}
"""The header `Retry-After`, in seconds. RabbitMQ accepts publishes to a full queue again once a fifth of it is free."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, the outcome, and the body, which is one line of JSON."""

    status: int
    outcome: RequestOutcome
    body: bytes


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """The answer to a refused request. The text says what is wrong and what is accepted."""

    def __init__(self, status: int, outcome: RequestOutcome, error: str) -> None:
        """`error` must not contain text from the request, because it is logged and sent back."""
        super().__init__(error)
        self.status = status
        self.outcome = outcome
        self.error = error

    @property
    def answer(self) -> Answer:
        """The answer to send."""
        return Answer(self.status, self.outcome, _line({"error": self.error}))


def taken(delivery_id: str, how: RequestOutcome) -> Answer:
    """Return the answer to a delivery that was accepted or spooled."""
    return Answer(202, how, _line({"status": how.value, "delivery": delivery_id}))


def pong(delivery_id: str) -> Answer:
    """Return the answer to a ping."""
    return Answer(200, RequestOutcome.PONG, _line({"status": "pong", "delivery": delivery_id}))


def _line(content: dict[str, str]) -> bytes:
    return msgspec.json.encode(content) + b"\n"
