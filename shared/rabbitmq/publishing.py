"""Publishing with confirms: what returns without an error is on the disks of a majority of the queue's replicas."""

import asyncio
import re
from collections import deque

from aiormq import ChannelPreconditionFailed, DeliveryError, PublishError
from aiormq.abc import AbstractConnection

from shared.errors import BrokerUnavailable, MessageTooLarge, QueueFull
from shared.rabbitmq.lanes import Envelope, Lane
from shared.rabbitmq.link import Link, cut_as_error, describe
from shared.waiting import Deadlines, is_set_within

CHANNELS = 2
"""Channels that share the messages: RabbitMQ serves each by a process of its own, but few fill their writes best."""

BIG = 1024 * 1024
"""Bytes beyond which a message goes over a channel where nothing else is, as a size that is refused closes it."""

# RabbitMQ 3.10 to 4.x, rabbit_channel:check_msg_size
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")


class Confirms:
    """Publishes over a link, among whose preparations is `open`."""

    def __init__(self, link: Link, timeout: float) -> None:
        """`timeout` is the deadline of a publish in seconds."""
        self._link = link
        self._timeout = timeout
        deadlines = Deadlines(timeout)
        self._lanes = deque(Lane(deadlines) for _ in range(CHANNELS))
        self._big_lane = Lane(deadlines)
        self._big_turn = asyncio.Lock()
        self._opened = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._largest: int | None = None
        self._sending: dict[str | None, asyncio.Event | None] = {}  # by message-id; the event, if somebody waits for it
        self._pending = 0
        self._idle = asyncio.Event()
        self._closed = False

    @property
    def available(self) -> bool:
        """Whether a publish would not be refused at once."""
        return self._link.up and not self._closed and any(lane.is_open for lane in self._lanes)

    async def open(self, connection: AbstractConnection) -> None:
        """Open the channels that are not open."""
        if connection is not self._connection:  # perhaps to a broker that takes larger messages
            self._connection, self._largest = connection, None
        for lane in (*self._lanes, self._big_lane):
            if not lane.is_open:
                await lane.open(connection, self._link.nudge)
        self._opened.set()

    async def publish(self, envelope: Envelope) -> None:
        """Return once RabbitMQ has confirmed a message; raises as `shared.broker.Publisher.publish` does."""
        if self._closed:
            raise BrokerUnavailable("closed")
        self._link.connection  # noqa: B018 - raises at once where there is none
        self._check_size(envelope)
        self._pending += 1
        try:
            if envelope.properties.message_id in self._sending or len(envelope.body) > BIG:
                async with asyncio.timeout(self._timeout):
                    await self._take_turn(envelope)
            else:
                await self._take_turn(envelope)
        except TimeoutError:
            self._link.nudge()  # which finds out whether the connection works at all
            raise BrokerUnavailable(f"not confirmed within {self._timeout:g} s") from None
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def close(self, seconds: float) -> None:
        """Take no more messages and give those that wait for a confirm so long to get it."""
        self._closed = True
        self._idle.clear()
        if self._pending:
            await is_set_within(self._idle, seconds)

    async def _take_turn(self, envelope: Envelope) -> None:
        """Send a message once no other with its ID is on its way.

        RabbitMQ says by the ID which message it returns for want of a queue. Of two with the same ID, aiormq would
        take the wrong one for returned and, far worse, the other for accepted.
        """
        message_id = envelope.properties.message_id
        while message_id in self._sending:
            sent = self._sending[message_id] = self._sending[message_id] or asyncio.Event()
            await sent.wait()
        self._sending[message_id] = None
        try:
            if len(envelope.body) > BIG:
                await self._send_alone(envelope)
            else:
                await self._send(self._next_lane(), envelope)
        finally:
            if (twins := self._sending.pop(message_id)) is not None:
                twins.set()

    async def _send_alone(self, envelope: Envelope) -> None:
        async with self._big_turn:
            while not self._big_lane.is_open:
                self._opened.clear()
                await self._opened.wait()
            self._check_size(envelope)
            await self._send(self._big_lane, envelope)

    def _next_lane(self) -> Lane:
        for _ in range(CHANNELS):
            self._lanes.rotate()
            if self._lanes[0].is_open:
                return self._lanes[0]
        raise BrokerUnavailable("no channel to RabbitMQ")

    async def _send(self, lane: Lane, envelope: Envelope) -> None:
        try:
            with cut_as_error():
                await lane.send(envelope)
        except TimeoutError:
            raise
        except PublishError as error:
            self._link.nudge()  # which declares the queue and its binding again
            raise BrokerUnavailable(f"no queue for it: {error}") from error
        except DeliveryError as error:
            raise QueueFull("the queue is at its bound") from error
        except ChannelPreconditionFailed as error:
            if match := _TOO_LARGE.search(str(error)):
                self._largest = int(match[1])
            self._check_size(envelope)  # the channel may have been closed for another's size
            raise BrokerUnavailable(describe(error)) from error
        except Exception as error:
            raise BrokerUnavailable(describe(error)) from error

    def _check_size(self, envelope: Envelope) -> None:
        if self._largest is not None and len(envelope.body) > self._largest:
            raise MessageTooLarge(f"{len(envelope.body)} bytes; RabbitMQ takes {self._largest}")
