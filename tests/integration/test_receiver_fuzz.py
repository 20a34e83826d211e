"""Whatever is sent, the answer is one of those that are documented, in JSON, and is counted once."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.signature import sign
from tests.github import SECRET
from tests.receiver import GUID, PAYLOAD, TIMEOUT, Running, receiver

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
