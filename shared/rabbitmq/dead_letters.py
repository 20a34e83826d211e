"""The dead letters in RabbitMQ: `shared.broker.DeadLetters`.

A queue cannot be looked at. A visit takes the messages, one after the other, and gives back at its end all that it has
not acked; until then nobody else sees them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import aiormq
from aiormq import spec
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from yarl import URL

from shared.broker import DeadLetter
from shared.errors import BrokerUnavailable
from shared.rabbitmq.decoding import tolerate_any_properties
from shared.rabbitmq.lanes import Envelope
from shared.rabbitmq.link import Link, describe, within
from shared.rabbitmq.messages import DeliveryProperties, from_dead_letter, times_returned, to_dead_letter
from shared.rabbitmq.publishing import Confirms
from shared.rabbitmq.topology import Topology

CONNECT_SECONDS = 10.0
"""How long a visit waits for RabbitMQ."""

CALL_SECONDS = 10.0
"""Deadline of anything that is asked of RabbitMQ."""

PUBLISH_SECONDS = 10.0
"""Deadline of a confirm."""

WORN = 10
"""How often a letter is given back before a fresh copy takes its place: half of RabbitMQ 4's own limit."""

_POLL_SECONDS = 0.02
_ALL = 0  # a delivery tag that stands for every message of the channel

_Result = TypeVar("_Result")


@asynccontextmanager
async def rabbit_dead_letters(url: str, topology: Topology) -> AsyncIterator["RabbitDeadLetters"]:
    """Visit the dead letters of a topology, which must exist.

    Raises `BrokerUnavailable` if RabbitMQ cannot be reached in time, has no such queue, or if another visit is on.
    """
    tolerate_any_properties()

    async def prepare(connection: AbstractConnection) -> None:
        await confirms.open(connection)

    link = Link(URL(url), "promgithub dead-letters", prepare)
    confirms = Confirms(link, PUBLISH_SECONDS)
    link.start()
    try:
        await _connected(link)
        channel = await _asked(link.connection.channel(publisher_confirms=False))
        total = await _asked(_enter(channel, topology.dead_letter_queue))
        try:
            yield RabbitDeadLetters(topology, channel, confirms, total)
        finally:
            await _asked(_leave(channel, topology.dead_letter_queue))
    finally:
        await link.close()


class RabbitDeadLetters:
    """One visit, over a channel of its own."""

    def __init__(self, topology: Topology, channel: AbstractChannel, confirms: Confirms, total: int) -> None:
        """`total` letters were ready when the visit began."""
        self._topology = topology
        self._channel = channel
        self._confirms = confirms
        self._total = total

    @property
    def total(self) -> int:
        """How many there were when the visit began."""
        return self._total

    async def letters(self) -> AsyncIterator[DeadLetter]:
        """Yield them in RabbitMQ's order, which begins with those that were given back before."""
        left = self._total
        while left and (message := await self._next()):
            letter = from_dead_letter(message, _now())
            if times_returned(message) >= WORN:
                await self._renew(message, letter)  # and come to the copy, at the end
                continue
            yield letter
            left -= 1

    async def replay(self, letter: DeadLetter) -> bool:
        """Publish the delivery, and once that is confirmed let RabbitMQ forget the letter."""
        delivery = letter.delivery
        await self._confirms.publish(
            Envelope(self._topology.exchange, delivery.event, delivery.body, DeliveryProperties(delivery))
        )
        return await self.drop(letter)

    async def drop(self, letter: DeadLetter) -> bool:
        """Let RabbitMQ forget the letter, which it has done when the visit ends without an error."""
        await _asked(self._channel.basic_ack(letter.number))
        return True

    async def _next(self) -> DeliveredMessage | None:
        message = await _asked(self._channel.basic_get(self._topology.dead_letter_queue))
        return None if isinstance(message.delivery, spec.Basic.GetEmpty) else message

    async def _renew(self, message: DeliveredMessage, letter: DeadLetter) -> None:
        """Put a copy that was never given back in the place of a letter.

        The queue may be an older one, or a policy may limit it: then a letter that is looked at too often is deleted.
        """
        properties = to_dead_letter(message.header.properties, letter.reason, letter.detail, letter.dead_at or _now())
        await self._confirms.publish(Envelope("", self._topology.dead_letter_queue, message.body, properties))
        await self.drop(letter)


async def _connected(link: Link) -> None:
    deadline = time.monotonic() + CONNECT_SECONDS
    while not link.up:
        if time.monotonic() > deadline:
            reason = link.trouble or "no answer"
            raise BrokerUnavailable(f"no connection to RabbitMQ at {link.address} in {CONNECT_SECONDS:g} s ({reason})")
        await asyncio.sleep(_POLL_SECONDS)


async def _enter(channel: AbstractChannel, queue: str) -> int:
    """Return how many letters are ready; nobody else may enter until this visit ends."""
    try:
        await channel.queue_declare(_turnstile(queue), exclusive=True)
    except aiormq.ChannelLockedResource:
        raise BrokerUnavailable(f"{queue}: another promgithub dead-letters is at work; wait for its end") from None
    try:
        return (await channel.queue_declare(queue, passive=True)).message_count or 0
    except aiormq.ChannelNotFoundEntity:
        raise BrokerUnavailable(f"{queue}: RabbitMQ has no such queue; PROMGITHUB_QUEUE_NAME says which") from None


async def _leave(channel: AbstractChannel, queue: str) -> None:
    """Give back what is not acked; RabbitMQ's answer means that it has come to every ack too."""
    if channel.is_closed:
        raise ConnectionError("the connection was cut")
    # Said rather than left to the end of the channel, as RabbitMQ 4.3 counts only the latter against a limit.
    await channel.basic_nack(_ALL, multiple=True, requeue=True)
    await channel.queue_delete(_turnstile(queue))
    await channel.close()


def _turnstile(queue: str) -> str:
    """Return the name of a queue that one connection may have at a time, and that ends with it."""
    return f"{queue}.visit"


async def _asked(work: Awaitable[_Result]) -> _Result:
    """Return RabbitMQ's answer. Raises `BrokerUnavailable` if there is none in time, or the connection ends."""
    try:
        return await within(CALL_SECONDS, _waited(work))
    except BrokerUnavailable:
        raise
    except Exception as error:
        raise BrokerUnavailable(f"RabbitMQ does not answer ({describe(error)})") from error


async def _waited(work: Awaitable[_Result]) -> _Result:
    return await work


def _now() -> int:
    return int(time.time() * 1000)
