"""Publishing with confirms: once a publish returns, a majority of the queue's replicas have the message on disk."""

import asyncio
import re
from collections import deque

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed, DeliveryError, PublishError

from shared.brokers.rabbitmq.link import Link, describe
from shared.brokers.rabbitmq.underlay import ConfirmChannel, Envelope
from shared.errors import BrokerUnavailable, MessageTooLarge, QueueFull
from shared.waiting import Deadlines, is_set_within

CHANNELS = 2
"""Channels for messages up to `LARGE_MESSAGE`. RabbitMQ runs a process per channel; more channels, smaller writes."""

LARGE_MESSAGE = 1024 * 1024
"""Larger messages, in bytes, use a separate channel, one at a time: RabbitMQ closes the channel of one too large."""

# RabbitMQ 3.10 to 4.x, rabbit_channel:check_msg_size
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


class ConfirmingPublisher:
    """Publishes over a link. The link's `prepare` must call `open`."""

    def __init__(self, link: Link, timeout: float) -> None:
        """`timeout` is the timeout of a publish, in seconds."""
        self._link = link
        self._timeout = timeout
        deadlines = Deadlines(timeout)
        self._channels = deque(ConfirmChannel(deadlines) for _ in range(CHANNELS))
        self._large_channel = ConfirmChannel(deadlines)
        self._large_turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._largest: int | None = None
        self._sending: dict[str | None, asyncio.Event | None] = {}  # by message-id; an event if another message waits
        self._pending = 0
        self._idle = asyncio.Event()
        self._closed = False

    @property
    def available(self) -> bool:
        """Whether there is an open channel to publish on."""
        return self._link.up and not self._closed and any(channel.is_open for channel in self._channels)

    async def ready_within(self, seconds: float) -> bool:
        """Wait at most `seconds` until the publisher is available; return whether it is. Returns at once if closed."""
        await self._link.holds_within(lambda: self.available or self._closed, seconds)
        return self.available

    async def open(self, connection: AbstractConnection) -> None:
        """Open the channels that are not open."""
        if connection is not self._connection:  # its broker may accept larger messages
            self._connection, self._largest = connection, None
        for channel in (*self._channels, self._large_channel):
            if not channel.is_open:
                await channel.open(connection, self._link.nudge)
        self._opened.set()

    async def publish(self, envelope: Envelope) -> None:
        """Return once RabbitMQ has confirmed a message. Raises the same errors as `interface.Publisher.publish`."""
        if self._closed:
            raise BrokerUnavailable("closed")
        self._link.connection  # noqa: B018 - raises at once if there is none
        self._check_size(envelope)
        self._pending += 1
        try:
            if envelope.properties.message_id in self._sending or len(envelope.body) > LARGE_MESSAGE:
                async with asyncio.timeout(self._timeout):
                    await self._take_turn(envelope)
            else:
                await self._take_turn(envelope)
        except TimeoutError:
            self._link.nudge()  # `prepare` fails if the connection does not work, and the link then reconnects
            raise BrokerUnavailable(f"not confirmed within {self._timeout:g} s") from None
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def close(self, seconds: float) -> None:
        """Accept no more messages, and wait at most `seconds` for the outstanding confirms."""
        self._closed = True
        self._idle.clear()
        if self._pending:
            await is_set_within(self._idle, seconds)

    async def _take_turn(self, envelope: Envelope) -> None:
        """Send a message once no other with its ID is in flight.

        RabbitMQ returns a message that it cannot route, and `ConfirmChannel` finds its sender by its ID. With two
        messages of the same ID in flight, it could report the lost message as confirmed.
        """
        message_id = envelope.properties.message_id
        while message_id in self._sending:
            sent = self._sending[message_id] = self._sending[message_id] or asyncio.Event()
            await sent.wait()
        self._sending[message_id] = None
        try:
            if len(envelope.body) > LARGE_MESSAGE:
                await self._send_alone(envelope)
            else:
                await self._send(self._next_channel(), envelope)
        finally:
            if (twins := self._sending.pop(message_id)) is not None:
                twins.set()

    async def _send_alone(self, envelope: Envelope) -> None:
        async with self._large_turn:
            while not self._large_channel.is_open:
                self._opened.clear()
                await self._opened.wait()
            self._check_size(envelope)
            await self._send(self._large_channel, envelope)

    def _next_channel(self) -> ConfirmChannel:
        for _ in range(CHANNELS):
            self._channels.rotate()
            if self._channels[0].is_open:
                return self._channels[0]
        raise BrokerUnavailable("no channel to RabbitMQ")

    async def _send(self, channel: ConfirmChannel, envelope: Envelope) -> None:
        try:
            await channel.send(envelope)
        except TimeoutError:
            raise
        except PublishError as error:
            self._link.nudge()  # `prepare` declares the queue and its binding again
            raise BrokerUnavailable(f"no queue for it: {error}") from error
        except DeliveryError as error:
            raise QueueFull("the queue has reached its limit") from error
        except ChannelPreconditionFailed as error:
            if match := _TOO_LARGE.search(str(error)):
                self._largest = int(match[1])
            self._check_size(envelope)  # another message may have been the one that was too large
            raise BrokerUnavailable(describe(error)) from error
        except Exception as error:
            raise BrokerUnavailable(describe(error)) from error

    def _check_size(self, envelope: Envelope) -> None:
        if self._largest is not None and len(envelope.body) > self._largest:
            raise MessageTooLarge(f"{len(envelope.body)} bytes; RabbitMQ accepts at most {self._largest}")
