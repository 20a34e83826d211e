"""The protocol of the load generator: orders and answers, as lines of JSON."""

from collections.abc import Mapping, Sequence

import msgspec

SECRET = "It's a Secret to Everybody"  # noqa: S105 - of GitHub's documentation
"""The secret for the signatures of deliveries."""


class Order(msgspec.Struct, frozen=True):
    """Send deliveries, signed with a secret, to the URL of a webhook (`http://HOST:PORT/PATH`).

    The connections are distributed over this URL and those of `others`.

    Without `rate`, each connection sends the next delivery as soon as it has an answer. With `rate`, deliveries are due
    at fixed times, `rate` per second, and latencies are measured from these times.
    """

    url: str
    connections: int
    deliveries: int
    rate: float | None = None
    secret: str = SECRET
    others: Sequence[str] = ()


class LoadOutcome(msgspec.Struct, frozen=True):
    """How often each status was answered (0: the connection ended), in how many seconds, and the latencies in ms."""

    answers: Mapping[int, int]
    seconds: float
    p50: float
    p99: float
    p999: float
    worst: float

    @property
    def accepted(self) -> int:
        """How many answers were 202."""
        return self.answers.get(202, 0)

    @property
    def rate(self) -> float:
        """How many deliveries were accepted per second."""
        return self.accepted / self.seconds

    @property
    def latencies(self) -> dict[str, float]:
        """The latencies by name."""
        return {"p50_ms": self.p50, "p99_ms": self.p99, "p99.9_ms": self.p999, "worst_ms": self.worst}
