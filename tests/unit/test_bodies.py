"""The bytes of bodies in memory are counted, limited over all requests, and always released."""

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from ingest.bodies import Bodies
from ingest.outcomes import Refusal, RequestOutcome

MAX_HELD = 1000


class Stream:
    """A body on its way."""

    def __init__(self, *pieces: bytes, complete: bool = True) -> None:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.connection_made(asyncio.Transport())
        self.reader = StreamReader(protocol, 2**16, loop=loop)
        for piece in pieces:
            self.reader.feed_data(piece)
        if complete:
            self.reader.feed_eof()


async def refusal_of(bodies: Bodies, stream: Stream) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await bodies.read(stream.reader)
    return caught.value


async def test_a_body_counts_as_held_until_it_is_released() -> None:
    bodies = Bodies(MAX_HELD)
    body = await bodies.read(Stream(b"x" * 600, b"y" * 300).reader)
    assert body == b"x" * 600 + b"y" * 300
    with pytest.raises(Refusal) as caught:
        bodies.admit(101)
    assert (caught.value.status, caught.value.outcome) == (503, RequestOutcome.SHED)
    bodies.admit(100)
    bodies.release(body)
    bodies.admit(MAX_HELD)


async def test_bodies_that_arrive_together_are_bounded_together() -> None:
    bodies = Bodies(MAX_HELD)
    streams = [Stream(b"x" * 400, complete=False) for _ in range(3)]
    reading = [asyncio.create_task(bodies.read(stream.reader)) for stream in streams]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Refusal):
        await reading[2]
    for stream in streams[:2]:
        stream.reader.feed_eof()
    assert [len(await task) for task in reading[:2]] == [400, 400]


async def test_a_body_that_breaks_off_is_held_no_longer() -> None:
    bodies = Bodies(MAX_HELD)
    for error in (ConnectionResetError(), OSError(), RuntimeError("Connection closed.")):
        stream = Stream(b"x" * 900, complete=False)
        stream.reader.set_exception(error)
        refusal = await refusal_of(bodies, stream)
        assert (refusal.status, refusal.outcome) == (400, RequestOutcome.BAD_REQUEST)
        bodies.admit(MAX_HELD)


async def test_a_reader_that_is_cancelled_holds_nothing() -> None:
    bodies = Bodies(MAX_HELD)
    reading = asyncio.create_task(bodies.read(Stream(b"x" * 900, complete=False).reader))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Refusal):
        bodies.admit(101)
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    bodies.admit(MAX_HELD)


async def test_a_body_that_came_with_its_headers_is_bounded_too() -> None:
    bodies = Bodies(MAX_HELD)
    held = await bodies.read(Stream(b"x" * 900).reader)
    refusal = await refusal_of(bodies, Stream(b"x" * 101))
    assert refusal.outcome == RequestOutcome.SHED
    bodies.release(held)
    assert len(await bodies.read(Stream(b"x" * MAX_HELD).reader)) == MAX_HELD
