"""Whether RabbitMQ could lose deliveries in a queue that exists with other arguments than ours. Pure.

AMQP has no way to read the arguments of a queue. A declaration with other arguments is refused, and RabbitMQ's answer
names one difference (rabbit_amqqueue:assert_equivalence). A declaration with the value from the answer finds the next
difference.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

Argument = str | int | bool

_DIFFERENCE = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' for queue .*: received .* but current is "
    r"(?:none|(?:the value )?'(?P<value>[^']*)'(?: of type '(?P<type>\w+)')?)"
)
_TEXTS = ("longstr", "binary")
_MAXIMUMS = ("x-max-length", "x-max-length-bytes")
_KEEPING = ("reject-publish", "reject-publish-dlx")


@dataclass(frozen=True, slots=True)
class QueueShape:
    """How a queue was declared."""

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    durable: bool = True
    auto_delete: bool = False

    def corrected(self, refusal: str) -> "QueueShape | None":
        """Return the shape with the value that RabbitMQ's refusal of a declaration says, or None if it says none."""
        match = _DIFFERENCE.search(refusal)
        if match is None:
            return None
        name, value = match["name"], match["value"]
        if name == "durable":
            return replace(self, durable=value == "true")
        if name == "auto_delete":
            return replace(self, auto_delete=value == "true")
        arguments = {key: given for key, given in self.arguments.items() if key != name}
        if value is not None:
            # If both have a value, RabbitMQ leaves out the type, which is then the same.
            text = match["type"] in _TEXTS if match["type"] else isinstance(self.arguments.get(name), str)
            arguments[name] = value if text else _parsed(value)
        return replace(self, arguments=arguments) if arguments != self.arguments else None

    def dangers(self, dead_letter_queue: str | None) -> Iterator[str]:
        """Yield each reason for which RabbitMQ could lose deliveries in the queue.

        `dead_letter_queue` is the queue that must get the deliveries that RabbitMQ gives up; None if that is not
        required.
        """
        if not self.durable:
            yield "it is not durable: its deliveries are lost when RabbitMQ restarts"
        if self.auto_delete:
            yield "auto-delete: RabbitMQ deletes it with its deliveries when its last consumer leaves"
        kind = self.arguments.get("x-queue-type", "classic")
        if kind != "quorum":
            yield f"x-queue-type is {kind}, not quorum: its deliveries are on one node only"
        maximum = next((name for name in _MAXIMUMS if name in self.arguments), None)
        if maximum is not None and self.arguments.get("x-overflow") not in _KEEPING:
            yield f"{maximum} without x-overflow=reject-publish: RabbitMQ drops the oldest deliveries when it is full"
        for name in ("x-message-ttl", "x-expires"):
            if name in self.arguments:
                yield f"{name}: RabbitMQ removes deliveries that wait for too long"
        if dead_letter_queue is not None and "x-delivery-limit" in self.arguments:
            target = self.arguments.get("x-dead-letter-exchange"), self.arguments.get("x-dead-letter-routing-key")
            if target != ("", dead_letter_queue):
                yield f"x-delivery-limit without {dead_letter_queue} as dead-letter queue: RabbitMQ drops poison"


def _parsed(value: str) -> Argument:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?\d+", value) else value
