"""What the two processes tell each other."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
from prometheus_client.core import Metric

from shared.delivery import Delivery
from shared.errors import BrokerError, BrokerUnavailable, MessageTooLarge, QueueFull

_REFUSALS = {kind.__name__: kind for kind in (BrokerUnavailable, QueueFull, MessageTooLarge)}


class Publish(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver asks for a delivery to be stored."""

    number: int
    delivery: Delivery


class Published(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The answer to `Publish`: the delivery is durable or, with the name and the text of an error, was refused."""

    number: int
    refusal: str = ""
    text: str = ""

    @classmethod
    def refused(cls, number: int, error: BrokerError) -> "Published":
        """Return the answer to a delivery that was not stored."""
        kinds = (kind for kind in type(error).__mro__ if kind.__name__ in _REFUSALS)
        return cls(number, next(kinds, BrokerUnavailable).__name__, str(error))

    @property
    def error(self) -> BrokerError | None:
        """The error of a delivery that was not stored."""
        return _REFUSALS[self.refusal](self.text) if self.refusal else None


class Listen(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver may open its port."""


class Listening(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver has opened its port."""


class Failed(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver cannot open its port, for this reason."""

    reason: str


class SayStarted(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver must log that it is ready."""


class Stop(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver must answer the requests in progress, and end."""


class Ask(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The receiver must report."""

    number: int


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """A sample of a metric."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """A metric and its samples."""

    name: str
    help: str
    kind: str
    samples: Sequence[Sample]

    @classmethod
    def of(cls, metric: Metric) -> "Family":
        """Return a metric of prometheus_client as a message."""
        samples = [Sample(one.name, one.labels, one.value) for one in metric.samples]
        return cls(metric.name, metric.documentation, metric.type, samples)

    def metric(self) -> Metric:
        """Return the metric."""
        metric = Metric(self.name, self.help, self.kind)
        for one in self.samples:
            metric.add_sample(one.name, one.labels, one.value)
        return metric


class Report(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The answer to `Ask`: the receiver's metrics, and when it last took a delivery of each event (Unix seconds)."""

    number: int
    families: Sequence[Family] = ()
    taken: dict[str, float] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        return [family.metric() for family in self.families]


FromReceiver: TypeAlias = Publish | Listening | Failed | Report
"""A message from the receiver."""

ToReceiver: TypeAlias = Published | Listen | SayStarted | Ask | Stop
"""A message to the receiver."""
