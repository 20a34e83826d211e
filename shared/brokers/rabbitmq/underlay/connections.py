"""Connections, and why RabbitMQ refuses or blocks them."""

import asyncio

import aio_pika
import aiormq.connection
from aio_pika.abc import AbstractConnection
from aiormq import ConnectionClosed, spec
from yarl import URL

from shared.brokers.rabbitmq.underlay.frames import FrameReader, Transport
from shared.brokers.rabbitmq.underlay.outbox import Outbox

_UNBLOCKED_SECONDS = 0.05


class Connection(aio_pika.Connection):
    """A connection of aio-pika whose frames are read in bulk."""

    def __init__(self, url: URL, name: str) -> None:
        """RabbitMQ shows `name` as the name of the connection."""
        super().__init__(url, client_properties={"connection_name": name})
        self._transport_factory = Transport()
        self.kwargs["transport_factory"] = self._transport_factory  # aio-pika passes these to aiormq

    @property
    def frames(self) -> FrameReader:
        """Its reader. Raises `ConnectionError` if it is not open."""
        if self._transport_factory.reader is None:
            raise ConnectionError("the connection is not open")
        return self._transport_factory.reader

    @property
    def outbox(self) -> Outbox:
        """The messages that are written to it. Raises `ConnectionError` if it is not open."""
        if self._transport_factory.outbox is None:
            raise ConnectionError("the connection is not open")
        return self._transport_factory.outbox


def opened(connection: AbstractConnection) -> Connection:
    """Return a connection that `Link` has made as its own type."""
    if not isinstance(connection, Connection):
        raise TypeError(f"{connection!r} does not read in bulk")
    return connection


async def is_blocked(connection: AbstractConnection) -> bool:
    """Return whether RabbitMQ has sent Connection.Blocked and not yet Connection.Unblocked.

    RabbitMQ sends Connection.Blocked only to connections that have published.
    """
    if connection.transport is None:
        return False
    try:
        async with asyncio.timeout(_UNBLOCKED_SECONDS):
            await connection.transport.ready()
    except TimeoutError:
        return True
    return False


def keep_reasons_of_refusals() -> None:
    """Make aiormq raise `ConnectionClosed` with RabbitMQ's reply if it refuses a connection during the handshake.

    It does not do so by itself for a virtual host that does not exist, or that the user has no rights on: it raises
    `InvalidFrameError` with the address of an object in memory (aiormq 6, `Connection._rpc`).
    """
    aiormq.Connection._rpc = staticmethod(_call)  # type: ignore[method-assign,assignment]


class _ReplyReader:
    """Reads the frames of a handshake. Raises `ConnectionClosed` if RabbitMQ closes the connection."""

    def __init__(self, receiver: aiormq.connection.FrameReceiver) -> None:
        self._receiver = receiver

    async def get_frame(self) -> tuple[int, int, object]:
        size, channel, received = await self._receiver.get_frame()
        if isinstance(received, spec.Connection.Close):
            raise ConnectionClosed(received.reply_code, received.reply_text)
        return size, channel, received


_handshake_call = aiormq.Connection._rpc


async def _call(
    request: object,
    writer: asyncio.StreamWriter,
    frame_receiver: aiormq.connection.FrameReceiver,
    wait_response: bool = True,
) -> object:
    return await _handshake_call(request, writer, _ReplyReader(frame_receiver), wait_response)  # type: ignore[arg-type]
