"""Writing messages in bulk: a system call costs as much CPU time as everything else that a publish needs."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

WRITE_BYTES = 512 * 1024
"""Bytes that wait to be read by RabbitMQ before the next messages have to wait."""

Confirmed = asyncio.Future[None]
"""What the sender of a message waits for."""


class Outbox:
    """The messages that wait to be written to one connection.

    All messages of one turn of the event loop go into one write. The frames of one message are not mixed with others.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(WRITE_BYTES)
        self._writer = writer
        self._waiting: OrderedDict[Confirmed, tuple[Callable[[Confirmed], None], Sequence[bytes]]] = OrderedDict()
        self._writing: asyncio.Handle | asyncio.Task[None] | None = None

    def put(self, confirmed: Confirmed, written: Callable[[Confirmed], None], pieces: Sequence[bytes]) -> None:
        """Write a message soon: its frames, in pieces. `written` is called when it is its turn."""
        self._waiting[confirmed] = written, pieces
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_soon(self._write)

    def forget(self, confirmed: Confirmed) -> None:
        """Do not write a message, if it still waits."""
        self._waiting.pop(confirmed, None)

    def _write(self) -> None:
        """Write all messages, or as many as RabbitMQ may read later; then wait until it has read them."""
        self._writing = None
        self._write_some()
        if self._waiting:
            self._writing = asyncio.create_task(self._write_rest())

    async def _write_rest(self) -> None:
        with suppress(OSError):  # the connection is lost, so the channels end, and their senders fail
            while self._waiting:
                await self._writer.drain()
                self._write_some()
        self._writing = None

    def _write_some(self) -> None:
        written: list[bytes] = []
        size = self._writer.transport.get_write_buffer_size()
        while self._waiting and size <= WRITE_BYTES:
            confirmed, (begin, pieces) = self._waiting.popitem(last=False)
            begin(confirmed)
            written += pieces
            size += sum(map(len, pieces))
        if written:
            self._writer.write(b"".join(written))
