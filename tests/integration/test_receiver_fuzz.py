"""Every request gets a documented answer in JSON, which is counted once and contains no text from the request."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.signature import sign
from tests.support import figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.receiver import GUID, PAYLOAD, TIMEOUT, Running, github_headers, receiver, request_bytes

STATUSES = {200, 202, 400, 401, 404, 405, 413, 415}

NAMES = ["X-GitHub-Delivery", "X-GitHub-Event", "X-GitHub-Hook-ID", "Content-Type", "Content-Encoding", "Expect"]
LIKELY = [GUID, "push", "ping", "1", "application/json", "application/x-www-form-urlencoded", "identity", "gzip"]
VALUES = st.sampled_from([text.encode() for text in LIKELY]) | st.binary(max_size=50).map(
    lambda value: bytes(byte for byte in value if byte not in b"\r\n\0")
)
BODIES = (
    st.sampled_from([PAYLOAD, b"payload=%7B%7D"]) | st.binary(max_size=200) | st.text('{}[]":,1\\ud8').map(str.encode)
)


class Sender:
    """Sends requests to a receiver from code that is not async."""

    def __init__(self, runner: asyncio.Runner, running: Running) -> None:
        self._runner = runner
        self._running = running
        self.answered: Counter[int] = Counter()

    def send(self, line: bytes, headers: dict[str, bytes], body: bytes) -> tuple[int, bytes]:
        """Send one request; return the status and the body of the answer."""
        sent = {name.encode(): value for name, value in headers.items()}
        sent |= {b"Host": b"localhost", b"Connection": b"close", b"Content-Length": str(len(body)).encode()}
        head = line + b"".join(b"\r\n" + name + b": " + value for name, value in sent.items())
        answer = self._runner.run(self._exchange(head + b"\r\n\r\n" + body)).removeprefix(
            b"HTTP/1.1 100 Continue\r\n\r\n"
        )
        head, _, said = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        self.answered[status] += 1
        return status, said

    def outcomes(self) -> dict[str, float]:
        """Return how many requests were counted with each outcome."""
        return self._runner.run(self._running.outcomes())

    async def _exchange(self, sent: bytes) -> bytes:
        reader, writer = await self._running.connect()
        try:
            async with asyncio.timeout(TIMEOUT):
                writer.write(sent)
                return await reader.read()
        finally:
            writer.close()


@pytest.fixture
def sender(amqp_url: str, queue_name: str) -> Iterator[Sender]:
    with asyncio.Runner() as runner:
        context = receiver(amqp_url=amqp_url, queue_name=queue_name)
        running = runner.run(context.__aenter__())
        runner.run(running.until_ready())
        yield Sender(runner, running)
        runner.run(context.__aexit__(None, None, None))


def test_nothing_that_is_sent_is_an_error_of_the_server_and_all_is_counted_once(sender: Sender) -> None:
    @settings(max_examples=400, deadline=None)
    @given(
        line=st.sampled_from([b"POST /webhook HTTP/1.1"] * 8 + [b"GET /webhook HTTP/1.1", b"POST / HTTP/1.0", b"X"]),
        usual=st.just(NAMES[:4]) | st.lists(st.sampled_from(NAMES[:4]), unique=True),
        headers=st.dictionaries(st.sampled_from(NAMES), VALUES),
        signature=st.none() | VALUES,
        body=BODIES,
    )
    @example(line=b"POST /webhook HTTP/1.1", usual=NAMES[:4], headers={}, signature=None, body=PAYLOAD)
    def check(line: bytes, usual: list[str], headers: dict[str, bytes], signature: bytes | None, body: bytes) -> None:
        sent = dict(zip(NAMES, (GUID.encode(), b"push", b"1", b"application/json"), strict=False))
        sent = {name: value for name, value in sent.items() if name in usual} | headers
        sent["X-Hub-Signature-256"] = sign(SECRET.encode(), body).encode() if signature is None else signature
        status, said = sender.send(line, sent, body)
        assert status in STATUSES
        assert said.endswith(b"\n")
        assert set(json.loads(said)) in ({"error"}, {"status", "delivery"})
        assert signature is None or status not in {200, 202}

    check()
    assert sum(sender.outcomes().values()) == sender.answered.total()
    assert sender.outcomes().get("accepted", 0) == sender.answered[202]
    assert {202, 400, 401, 415} <= set(sender.answered)


# --- Bytes that need not be HTTP ---

SECRET_WORD = "Sword-fish"
"""What is sent in payloads and headers, and must not be in the log. It is no event's name: those are logged."""

SILENCE = 0.1
"""Seconds without an answer after which a connection is given up."""

BODY = json.dumps({"action": "queued", "name": SECRET_WORD}).encode()

FURTHER_NAMES = [b"Transfer-Encoding", b"Content-Length", b"Content-Encoding", b"Expect", b"Connection", b"Upgrade"]
FURTHER_NAMES += [b"Host", b"X-Hub-Signature-256", b"X-GitHub-Event", b"X-GitHub-Delivery", b"X Y", b"", b"X-\xff\0"]
FURTHER_VALUES = [b"chunked", b"chunked, chunked", b"gzip, chunked", b"identity", b"gzip", b"deflate", b"br", b""]
FURTHER_VALUES += [b"0", b"5", b"-1", b"+3", b"0x10", b"9" * 30, b"100-continue", b"close", b"keep-alive", b"websocket"]
FURTHER_VALUES += [SECRET_WORD.encode(), SECRET_WORD.encode() * 1000, SECRET_WORD.encode() * 9000, b"a\rb", b"a\n b"]

ODD_LINES = [b"post /webhook HTTP/1.1", b"POST /webhook HTTP/1.0", b"POST /webhook HTTP/9.9", b"POST /webhook", b""]
ODD_LINES += [b"POST http://x/webhook HTTP/1.1", b"GET /%s HTTP/1.1" % SECRET_WORD.encode(), b"\x16\x03\x01"]

FRAMED = {
    "length": (b"Content-Length: %d\r\n\r\n" % len(BODY), BODY),
    "no length": (b"\r\n", BODY),
    "too long": (b"Content-Length: %d\r\n\r\n" % (len(BODY) + 5), BODY),
    "too short": (b"Content-Length: %d\r\n\r\n" % (len(BODY) - 5), BODY),
    "two lengths": (b"Content-Length: %d\r\nContent-Length: 3\r\n\r\n" % len(BODY), BODY),
    "over the limit": (b"Content-Length: 26214401\r\n\r\n", BODY),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\n" + BODY[:3] + b"\r\n%x;x=y\r\n" % len(BODY[3:])),
    "both": (b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY),
    "no size": (b"Transfer-Encoding: chunked\r\n\r\n", SECRET_WORD.encode() + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "negative": (b"Transfer-Encoding: chunked\r\n\r\n", b"-3\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "endless": (b"Transfer-Encoding: chunked\r\n\r\n", b"F" * 17 + b"\r\n" + BODY),
    "size of any length": (b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 70_000 + b"\r\n\r\n"),
}
FRAMED["chunked"] = (FRAMED["chunked"][0], FRAMED["chunked"][1] + BODY[3:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n")
"""Ways to say where a body ends, and the body."""


@dataclass(frozen=True)
class Wire:
    """One request, by what is unusual about it."""

    line: bytes
    missing: Collection[str]
    further: Sequence[tuple[bytes, bytes]]
    framing: str

    @property
    def sent(self) -> bytes:
        usual = {name: value for name, value in github_headers(BODY, Host="x").items() if name not in self.missing}
        headers = [*((name.encode(), value.encode()) for name, value in usual.items()), *self.further]
        end, body = FRAMED[self.framing]
        return b"".join([self.line, b"\r\n", *(b"%s: %s\r\n" % header for header in headers), end, body])


WIRES = st.builds(
    Wire,
    line=st.sampled_from([b"POST /webhook HTTP/1.1"] * len(ODD_LINES) + ODD_LINES),
    missing=st.sets(st.sampled_from(["Host", "Content-Type", "X-GitHub-Event", "X-Hub-Signature-256"]), max_size=1),
    further=st.lists(st.tuples(st.sampled_from(FURTHER_NAMES), st.sampled_from(FURTHER_VALUES)), max_size=2),
    framing=st.just("length") | st.sampled_from(list(FRAMED)),
)


class Subject:
    """A receiver as a process, used from code that is not async."""

    def __init__(self, runner: asyncio.Runner, receiver: Process) -> None:
        self._runner = runner
        self._receiver = receiver
        self.answered: Counter[int] = Counter()

    def exchange(self, pieces: Sequence[bytes], silence: float = SILENCE) -> list[int]:
        """Send pieces, each a moment after the other; return the statuses of what is answered until silence.

        `silence`: seconds after which nothing more is expected. For the first answer it is five times as long.
        """
        statuses = list(_statuses(self._runner.run(self._exchange(pieces, silence))))
        self.answered.update(statuses)
        return statuses

    def is_idle(self) -> bool:
        """Wait until no request is in flight; return whether that came about."""

        async def idle() -> bool | None:
            async with GitHub() as github:
                return figures.value(await github.figures(self._receiver), "promgithub_webhook_in_flight") == 0 or None

        return self._runner.run(until(idle, TIMEOUT))

    async def _exchange(self, pieces: Sequence[bytes], silence: float) -> bytes:
        host, port = self._receiver.service_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, port)
        received = b""
        with suppress(ConnectionError, TimeoutError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            while data := await asyncio.wait_for(reader.read(65536), silence if received else 5 * silence):
                received += data
        writer.transport.abort()
        return received


def _statuses(received: bytes) -> Iterator[int]:
    """Yield the status of each answer, all of which are well formed and one line of JSON.

    An answer has the version of the request, which is 0.9 if that had none.
    """
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert end
        assert re.fullmatch(rb"HTTP/(0\.9|1\.[01]) \d{3} [A-Za-z -]+", first), first
        if first.split()[1] == b"100":
            received = rest
            continue
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = int(headers[b"content-length"])
        said = rest[:length]
        assert len(said) == length
        assert said.endswith(b"\n")
        assert set(json.loads(said)) in ({"error"}, {"status", "delivery"})
        yield int(first.split()[1])
        received = rest[length:]


@pytest.fixture
def subject(amqp_url: str, queue_name: str, launcher: Launcher) -> Iterator[Subject]:
    settings = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name, "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "debug"}
    process = launcher.start("ingest", **settings)
    with asyncio.Runner() as runner:
        runner.run(process.ready())
        yield Subject(runner, process)


def test_bytes_of_any_kind_are_answered_or_hung_up_on_and_the_receiver_goes_on_and_logs_none_of_them(
    subject: Subject, tmp_path: Path
) -> None:
    good = [request_bytes(Connection="close")]

    @settings(max_examples=200)
    @given(
        wires=st.lists(WIRES, min_size=1, max_size=3),
        kept=st.sampled_from([1.0, 1.0, 1.0, 0.99, 0.5]),
        pieces=st.sampled_from([1, 1, 2, 5]),
    )
    def check(wires: list[Wire], kept: float, pieces: int) -> None:
        sent = b"".join(wire.sent for wire in wires)
        sent = sent[: int(len(sent) * kept)]
        size = len(sent) // pieces + 1
        assert set(subject.exchange([sent[at : at + size] for at in range(0, len(sent), size)])) <= STATUSES
        assert subject.exchange(good, TIMEOUT) == [202]

    check()
    assert {202, 400, 401, 415} <= set(subject.answered)
    assert subject.is_idle()
    log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert '"accepted"' in log
    assert SECRET_WORD not in log
    assert SECRET not in log
    assert "Traceback" not in log
