"""Messages that consumers hold in memory, and the limit of their payloads in bytes. Pure."""

from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile

from shared.brokers.interface import Held
from shared.brokers.rabbitmq.messages import received_at
from shared.brokers.rabbitmq.underlay import PushedMessage

GROWTH_MESSAGES = 1000
"""Messages after which the limit that `Room.shrink` has set doubles."""


class Room:
    """What the consumers of a process hold together, and how many messages they may take.

    RabbitMQ limits unacked messages by number only. The number is therefore lowered after messages were too large.
    """

    def __init__(self, most: int) -> None:
        """`most` is the maximum number of bytes of the payloads."""
        self.most = most
        self.messages = 0
        """Messages that the consumers hold."""
        self.bytes = 0
        """Bytes of their payloads."""
        self.returns = 0
        """How often `shrink` was called."""
        self._slots: int | None = None
        self._largest = 0
        self._arrived = 0

    def admit(self, size: int) -> bool:
        """Count a message of `size` bytes as held; return False if there is no room. A single one always has room."""
        self._largest = max(self._largest, size)
        if self.messages and self.bytes + size > self.most:
            return False
        self.messages += 1
        self.bytes += size
        self._arrived += 1
        return True

    def leave(self, size: int) -> None:
        """Count a message of `size` bytes as no longer held."""
        self.messages -= 1
        self.bytes -= size

    def shrink(self) -> int:
        """Let the consumers take only as many messages as fit if all are as large as the largest; return the number."""
        self.returns += 1
        self._slots = max(1, self.most // self._largest)
        self._arrived = 0
        return self._slots

    def grow(self) -> bool:
        """Double the number of messages once `GROWTH_MESSAGES` have arrived; return whether that was done."""
        if self._slots is None or self._arrived < GROWTH_MESSAGES:
            return False
        self._slots *= 2
        self._largest = self._arrived = 0
        return True

    def shares(self, wanted: Sequence[int]) -> list[int]:
        """Return how many messages each consumer may take, at most as many as it wants."""
        if self._slots is None or self._slots >= sum(wanted):
            self._slots = None
            return list(wanted)
        share, rest = divmod(self._slots, len(wanted))
        return [min(most, share + (index < rest)) for index, most in enumerate(wanted)]


class Inbox:
    """The messages that one consumer holds: those that wait, and those of the batch that was taken last."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._waiting: deque[PushedMessage] = deque()
        self._taken: Sequence[PushedMessage] = ()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    @property
    def first(self) -> PushedMessage:
        """The message that has waited longest."""
        return self._waiting[0]

    @property
    def is_free(self) -> bool:
        """Whether no message waits, and none is in a batch."""
        return not self._waiting and not self._taken

    @property
    def batch_is_lost(self) -> bool:
        """Whether the batch that was taken last can no longer be acked; RabbitMQ redelivers it."""
        return bool(self._taken) and self._taken[0].is_lost

    def add(self, message: PushedMessage) -> bool:
        """Add a message that has arrived; return False if there is no room for it."""
        if not self._room.admit(message.size):
            return False
        self._waiting.append(message)
        return True

    def take(self, size: int) -> Sequence[PushedMessage]:
        """Take at most `size` messages as a batch; a redelivered one is taken alone."""
        fresh = takewhile(lambda message: not message.redelivered, islice(self._waiting, size))
        count = sum(1 for _ in fresh) or 1
        self._taken = [self._waiting.popleft() for _ in range(count)]
        return self._taken

    def finish(self) -> None:
        """Release the batch that was taken last."""
        for message in self._taken:
            self._room.leave(message.size)
        self._taken = ()

    def drop_lost(self) -> None:
        """Drop messages that can no longer be acked; RabbitMQ redelivers them."""
        while self._waiting and self._waiting[0].is_lost:
            self._room.leave(self._waiting.popleft().size)

    def clear(self) -> None:
        """Drop all messages that wait."""
        while self._waiting:
            self._room.leave(self._waiting.popleft().size)

    def held(self, now: int) -> Held:
        """Return what the consumer holds; `now`, in Unix milliseconds, replaces a missing time."""
        times = [received_at(message, now) for message in (*self._taken, *self._waiting)]
        return Held(len(times), min(times, default=None))
