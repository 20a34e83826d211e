"""What the receiver answers, and how each answer is counted. Pure."""

from dataclasses import dataclass
from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """How a request ended: a value of the label `outcome`."""

    ACCEPTED = "accepted"  # the broker has confirmed it
    SPOOLED = "spooled"  # on this receiver's disk, until the broker takes it
    PONG = "pong"  # a ping, answered and not published
    BAD_REQUEST = "bad_request"  # headers or payload that GitHub does not send, or a body that never came
    BAD_SIGNATURE = "bad_signature"  # not signed with a secret of ours
    TOO_LARGE = "too_large"  # over GitHub's limit, or over the broker's
    UNSUPPORTED = "unsupported"  # another path, method or content type
    SHED = "shed"  # the receiver holds as much as it may
    QUEUE_FULL = "queue_full"  # the bounded queue refused it
    BROKER_DOWN = "broker_down"  # the broker is away or did not confirm


RETRY_AFTER = {Outcome.SHED: "1", Outcome.BROKER_DOWN: "5", Outcome.QUEUE_FULL: "30"}
"""Seconds after which another attempt may succeed. A full queue takes deliveries again once a fifth of it is free."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, how it is counted, and the body: one line of JSON."""

    status: int
    outcome: Outcome
    body: bytes


class Refusal(Exception):  # noqa: N818 - an answer, raised where the reason is found
    """The answer to a request that is not accepted; the text says what was wrong and what is accepted."""

    def __init__(self, status: int, outcome: Outcome, error: str) -> None:
        """`error` must contain nothing that the sender may choose freely: it is logged and sent back."""
        super().__init__(error)
        self.status = status
        self.outcome = outcome
        self.error = error

    @property
    def answer(self) -> Answer:
        """What is sent."""
        return Answer(self.status, self.outcome, _line({"error": self.error}))


def taken(delivery_id: str, how: Outcome) -> Answer:
    """Return the answer to a delivery that is durable: accepted or spooled."""
    return Answer(202, how, _line({"status": how.value, "delivery": delivery_id}))


def pong(delivery_id: str) -> Answer:
    """Return the answer to a ping."""
    return Answer(200, Outcome.PONG, _line({"status": "pong", "delivery": delivery_id}))


def _line(content: dict[str, str]) -> bytes:
    return msgspec.json.encode(content) + b"\n"
