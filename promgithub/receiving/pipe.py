"""Messages between two processes, over a pair of connected sockets."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

_Received = TypeVar("_Received")

_LENGTH = struct.Struct(">I")
_ENCODER = msgspec.msgpack.Encoder()


class Pipe(asyncio.Protocol, Generic[_Received]):
    """One end. Messages arrive in the order in which they were sent."""

    def __init__(self, kind: Any, received: Callable[[_Received], None]) -> None:
        """`received` is called with each message; `kind` is the type of all of them."""
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._received = received
        self._arrived = bytearray()
        self._outgoing: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()
        """Set when the other end was closed or its process has ended."""

    async def open(self, own: socket.socket) -> None:
        """Use an end of a socket pair."""
        self._transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=own)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message. Those of one turn of the event loop are written together; after the end, they are lost."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        encoded = _ENCODER.encode(message)
        self._outgoing += _LENGTH.pack(len(encoded)), encoded

    async def close(self) -> None:
        """Send what is left, and close this end."""
        if self._transport is not None:
            self._flush()
            self._transport.close()
            await self.closed.wait()

    def data_received(self, data: bytes) -> None:
        """Take in the next bytes."""
        arrived = self._arrived
        arrived += data
        start = 0
        with memoryview(arrived) as view:
            while len(arrived) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(arrived, start)
                end = start + _LENGTH.size + length
                if end > len(arrived):
                    break
                self._received(self._decoder.decode(view[start + _LENGTH.size : end]))
                start = end
        del arrived[:start]

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that this is the end."""
        self.closed.set()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing and not self.closed.is_set():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
