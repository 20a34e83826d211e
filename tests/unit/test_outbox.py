"""Messages are written in bulk, in order, and no faster than RabbitMQ reads; forgotten ones do not stay in memory."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from shared.brokers.rabbitmq.underlay.outbox import WRITE_BYTES, Confirmed, Outbox

LARGE = 100_000


class Network(asyncio.Transport):
    """A transport on which a write takes no time, and reading what was written as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.protocol: asyncio.StreamReaderProtocol
        self._unread = 0
        self._limit = 0
        self._lost = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._limit = high or 0

    def get_write_buffer_size(self) -> int:
        return self._unread

    def is_closing(self) -> bool:
        return self._lost

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)
        self._unread += len(data)
        if self._unread > self._limit:
            self.protocol.pause_writing()

    def read_all(self) -> None:
        """Read what was written, as RabbitMQ does."""
        was_full = self._unread > self._limit
        self._unread = 0
        if was_full:
            self.protocol.resume_writing()

    def close(self) -> None:
        self._lost = True

    def lose(self) -> None:
        """End the connection."""
        self._lost = True
        self.protocol.connection_lost(ConnectionResetError())


class Sender:
    """Puts messages into an outbox, and keeps in which order it was their turn."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        self.network = Network()
        self.network.protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.network.protocol.connection_made(self.network)
        self.outbox = Outbox(asyncio.StreamWriter(self.network, self.network.protocol, reader, loop))
        self.turns: list[Confirmed] = []

    def put(self, *pieces: bytes) -> Confirmed:
        confirmed: Confirmed = asyncio.get_running_loop().create_future()
        self.outbox.put(confirmed, self.turns.append, pieces)
        return confirmed

    @property
    def written(self) -> bytes:
        return b"".join(self.network.writes)


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def large(number: int) -> bytes:
    return bytes((number,)) * LARGE


async def test_all_messages_of_one_turn_of_the_event_loop_are_one_write_in_their_order() -> None:
    sender = Sender()
    first = [sender.put(b"head-%d " % number, b"body-%d " % number) for number in range(3)]
    assert sender.network.writes == []

    await asyncio.sleep(0)
    second = sender.put(b"later")
    await asyncio.sleep(0)

    assert sender.network.writes == [b"head-0 body-0 head-1 body-1 head-2 body-2 ", b"later"]
    assert sender.turns == [*first, second]


async def test_what_rabbitmq_does_not_read_waits_and_is_written_in_its_order_once_it_reads() -> None:
    sender = Sender()
    confirmed = [sender.put(large(number)) for number in range(20)]
    await turns_of_the_loop()

    assert WRITE_BYTES < len(sender.written) <= WRITE_BYTES + LARGE
    assert len(sender.turns) == len(sender.written) // LARGE

    confirmed.append(sender.put(large(20)))
    await turns_of_the_loop()
    assert len(sender.network.writes) == 1
    for _ in range(5):
        sender.network.read_all()
        await turns_of_the_loop()
    assert sender.written == b"".join(large(number) for number in range(21))
    assert sender.turns == confirmed
    assert max(map(len, sender.network.writes)) <= WRITE_BYTES + LARGE


async def test_messages_are_written_at_once_again_after_rabbitmq_has_read() -> None:
    sender = Sender()
    for number in range(10):
        sender.put(large(number))
    await turns_of_the_loop()
    for _ in range(3):
        sender.network.read_all()
        await turns_of_the_loop()
    writes = len(sender.network.writes)

    sender.put(b"small")
    await asyncio.sleep(0)

    assert sender.network.writes[writes:] == [b"small"]


async def test_a_message_that_is_forgotten_before_its_turn_is_not_written() -> None:
    sender = Sender()
    kept, forgotten, last = (sender.put(name) for name in (b"kept ", b"forgotten ", b"last "))

    sender.outbox.forget(forgotten)
    await asyncio.sleep(0)
    sender.outbox.forget(kept)  # too late, as senders do when they have their confirms

    assert sender.written == b"kept last "
    assert sender.turns == [kept, last]


async def test_a_message_that_is_forgotten_while_rabbitmq_does_not_read_is_neither_kept_nor_written() -> None:
    sender = Sender()
    confirmed = [sender.put(large(number)) for number in range(20)]
    await turns_of_the_loop()
    waiting = len(sender.turns)
    kept = [weakref.ref(one) for one in confirmed[waiting:]]

    for one in confirmed:
        sender.outbox.forget(one)
    del confirmed, one
    sender.turns.clear()
    gc.collect()
    assert [ref for ref in kept if ref() is not None] == []

    last = sender.put(b"last")
    sender.network.read_all()
    await turns_of_the_loop()
    assert sender.written == b"".join(large(number) for number in range(waiting)) + b"last"
    assert sender.turns == [last]


@pytest.mark.parametrize("full", [True, False])
async def test_a_lost_connection_is_no_error_and_what_waited_can_be_forgotten(full: bool) -> None:
    errors: list[dict[str, Any]] = []
    remember: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None] = lambda _, context: errors.append(context)  # noqa: E731
    asyncio.get_running_loop().set_exception_handler(remember)
    sender = Sender()
    confirmed = [sender.put(large(number)) for number in range(20 if full else 2)]
    await turns_of_the_loop()

    sender.network.lose()
    await turns_of_the_loop()
    kept = [weakref.ref(one) for one in confirmed]
    for one in confirmed:
        sender.outbox.forget(one)
    del confirmed, one
    sender.turns.clear()
    gc.collect()
    assert [ref for ref in kept if ref() is not None] == []

    del sender  # and with it the result of its task
    gc.collect()
    assert errors == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
