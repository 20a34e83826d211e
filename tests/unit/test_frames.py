"""Each frame that arrives reaches its taker or aiormq, whole and in order, wherever the network has cut the stream."""

import asyncio
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from shared.brokers.rabbitmq.underlay.frames import ALIVE_SECONDS, FrameReader

TAKEN = (1, 2)
"""The channels that have a taker."""

LEFT = 3
"""A channel without a taker."""

HEARTBEAT = frame.marshal(Heartbeat(), 0)
CONFIRMS = (commands.Basic.Ack.index, commands.Basic.Nack.index)
HEAD = 7  # bytes of a frame before its payload
NOT_AMQP = [b"AMQP\x00\x00\x09\x01", frame.marshal(commands.Channel.CloseOk(), LEFT)[:-1] + b"\0"]


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only if a test moves it."""

    now = 0.0

    def time(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


class Log:
    """A taker that takes messages and confirms, and keeps them."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, ...]] = []

    def content(self, method: bytes, header: bytes, body: bytes) -> None:
        self.taken.append((method, header, body))

    def method(self, payload: bytes) -> bool:
        if struct.unpack_from(">I", payload)[0] not in CONFIRMS:
            return False
        self.taken.append((payload,))
        return True


@dataclass(frozen=True)
class Sent:
    """Frames that follow each other on one channel, and what the taker of the channel has to get."""

    channel: int
    frames: tuple[bytes, ...]
    taken: tuple[bytes, ...] = ()


def payload(marshalled: bytes) -> bytes:
    return marshalled[HEAD:-1]


def one(channel: int, sent: Frame) -> Sent:
    """Return a method without content."""
    marshalled = frame.marshal(sent, channel)
    return Sent(channel, (marshalled,), (payload(marshalled),) if sent.index in CONFIRMS else ())


def message(channel: int, method: Frame, pieces: Sequence[bytes], message_id: str = "") -> Sent:
    body = b"".join(pieces)
    header = ContentHeader(0, len(body), commands.Basic.Properties(message_id=message_id))
    parts: list[Frame | ContentHeader | ContentBody] = [method, header, *map(ContentBody, pieces)]
    frames = tuple(frame.marshal(part, channel) for part in parts)
    is_answer = isinstance(method, commands.Basic.GetOk)
    return Sent(channel, frames, () if is_answer else (payload(frames[0]), payload(frames[1]), body))


def sendings(channel: int) -> st.SearchStrategy[Sent]:
    tag, text = st.integers(0, 2**63 - 1), st.text("a-1.", max_size=9)
    confirm = st.builds(commands.Basic.Ack, tag, st.booleans()) | st.builds(commands.Basic.Nack, tag, st.booleans())
    other = st.just(commands.Channel.CloseOk()) | st.builds(commands.Basic.Cancel, text)
    with_content = (
        st.builds(commands.Basic.Deliver, text, tag, st.booleans(), text, text)
        | st.builds(commands.Basic.Return, st.just(312), text, text, text)
        | st.builds(commands.Basic.GetOk, tag, st.booleans(), text, text, st.just(0))
    )
    pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=4)
    contents = st.builds(message, st.just(channel), with_content, pieces, text)
    return contents | st.builds(one, st.just(channel), confirm | other)


OF_CONNECTION = st.sampled_from(
    [Sent(0, (HEARTBEAT,)), one(0, commands.Connection.Blocked("low on memory")), one(0, commands.Connection.CloseOk())]
)
STREAMS = st.tuples(
    st.lists(OF_CONNECTION, max_size=3), *(st.lists(sendings(channel), max_size=5) for channel in (*TAKEN, LEFT))
)


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[Sent], list[tuple[Sent, bytes]]]:
    """Return what is sent on all channels, and the frames in the order of the stream."""
    channels = draw(STREAMS)
    queues = [[(sent, one) for sent in channel for one in sent.frames] for channel in channels]
    order = draw(st.permutations([number for number, queue in enumerate(queues) for _ in queue]))
    ways = [iter(queue) for queue in queues]
    return [sent for channel in channels for sent in channel], [next(ways[number]) for number in order]


def chunks(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(bounds) if begin < end]


CUTS = st.lists(st.integers(0, 10_000), max_size=30) | st.just(range(10_000))  # the last one: every byte alone


def reading(loop: Loop) -> tuple[FrameReader, dict[int, Log]]:
    reader, takers = FrameReader(loop), {channel: Log() for channel in TAKEN}
    for channel, taker in takers.items():
        reader.attach(channel, taker)
    return reader, takers


def left(loop: Loop, reader: FrameReader) -> bytes:
    """Return all that is left to aiormq."""
    return loop.run_until_complete(reader.read())


def frames_of(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        (size,) = struct.unpack_from(">I", stream, 3)
        found.append(stream[: HEAD + size + 1])
        stream = stream[HEAD + size + 1 :]
    return found


@given(sent=interleaved(), cuts=CUTS)
def test_every_frame_reaches_its_taker_or_aiormq_wherever_the_stream_is_cut(
    loop: Loop, sent: tuple[list[Sent], list[tuple[Sent, bytes]]], cuts: Sequence[int]
) -> None:
    whole, frames = sent
    reader, takers = reading(loop)

    for chunk in chunks(b"".join(one for _, one in frames), cuts):
        reader.feed_data(chunk)
    reader.feed_eof()

    assert left(loop, reader) == b"".join(
        one for source, one in frames if not source.taken or source.channel not in TAKEN
    )
    for channel, taker in takers.items():
        assert taker.taken == [source.taken for source in whole if source.channel == channel and source.taken]


@given(sent=interleaved(), cuts=CUTS, further=st.binary(max_size=30), wrong=st.sampled_from(NOT_AMQP))
@example(sent=([], []), cuts=[3], further=b"", wrong=NOT_AMQP[1])
def test_bytes_that_are_not_amqp_reach_aiormq_once_and_unchanged_and_nothing_after_them_is_taken(
    loop: Loop, sent: tuple[list[Sent], list[tuple[Sent, bytes]]], cuts: Sequence[int], further: bytes, wrong: bytes
) -> None:
    _, frames = sent
    after = further + b"".join(message(1, commands.Basic.Deliver("c", 1, False, "", ""), [b"body"]).frames)
    before = b"".join(one for source, one in frames if not source.taken or source.channel not in TAKEN)
    reader, takers = reading(loop)
    taken = [source.taken for source in sent[0] if source.channel == 1 and source.taken]

    for chunk in chunks(b"".join(one for _, one in frames) + wrong + after, cuts):
        reader.feed_data(chunk)
    reader.feed_eof()

    assert left(loop, reader) == before + wrong + after
    assert takers[1].taken == taken


@pytest.mark.parametrize("begun", [NOT_AMQP[0], HEARTBEAT[:3], HEARTBEAT[:7], HEARTBEAT + HEARTBEAT[:-1]])
def test_a_stream_that_ends_inside_a_frame_is_left_whole_and_its_connection_ends(loop: Loop, begun: bytes) -> None:
    reader, _ = reading(loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    protocol.connection_made(asyncio.Transport())

    protocol.data_received(begun)
    protocol.eof_received()
    protocol.connection_lost(None)

    assert left(loop, reader) == begun
    assert protocol._get_close_waiter(None).done()  # type: ignore[attr-defined]


def test_a_frame_of_a_message_that_began_before_its_taker_came_is_left(loop: Loop) -> None:
    reader, log = FrameReader(loop), Log()
    delivered = message(1, commands.Basic.Deliver("c", 1, False, "", ""), [b"body"])

    reader.feed_data(delivered.frames[0])
    reader.attach(1, log)
    reader.feed_data(b"".join((*delivered.frames[1:], *delivered.frames)))
    reader.feed_eof()

    assert left(loop, reader) == b"".join(delivered.frames)
    assert log.taken == [delivered.taken]


def test_only_the_taker_of_a_channel_can_be_detached_from_it(loop: Loop) -> None:
    reader, earlier, later = FrameReader(loop), Log(), Log()
    ack = one(1, commands.Basic.Ack(1, False))

    reader.attach(1, earlier)
    reader.attach(1, later)
    reader.detach(1, earlier)
    reader.feed_data(ack.frames[0])
    reader.detach(1, later)
    reader.feed_data(ack.frames[0])
    reader.feed_eof()

    assert (earlier.taken, later.taken) == ([], [ack.taken])
    assert left(loop, reader) == ack.frames[0]


def test_aiormq_gets_a_heartbeat_about_once_a_second_while_frames_are_taken_and_none_before() -> None:
    loop = Loop()
    loop.now = 1_000.0
    reader, takers = reading(loop)
    mark = frame.marshal(commands.Channel.CloseOk(), LEFT)  # is left, so it shows when the heartbeats came
    step = ALIVE_SECONDS / 4

    for _ in range(100):
        reader.feed_data(mark)
        loop.now += step
    for _ in range(100):
        reader.feed_data(frame.marshal(commands.Basic.Ack(1, False), 1))
        reader.feed_data(mark)
        loop.now += step
    reader.feed_eof()

    frames = frames_of(left(loop, reader))
    assert len(takers[1].taken) == 100
    assert set(frames) == {mark, HEARTBEAT}
    came = [frames[:at].count(mark) * step for at, one in enumerate(frames) if one == HEARTBEAT]
    assert came[0] == 100 * step
    assert all(ALIVE_SECONDS < later - earlier <= 2 * ALIVE_SECONDS for earlier, later in pairwise(came))
    assert len(came) >= 100 * step / (2 * ALIVE_SECONDS)
    loop.close()
