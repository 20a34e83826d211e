"""Each answer of the receiver: its status, its body, how it is counted, and what is in the queue afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio

from ingest.signature import sign
from tests.support import figures
from tests.support.github import SECRET, until
from tests.support.proxy import Proxy
from tests.support.receiver import GUID, PAYLOAD, TIMEOUT, Running, receiver, request_bytes

MAX_BODY = 26_214_400
NOT_ASCII = b"\xff\xfe"


@pytest_asyncio.fixture
async def running(amqp_url: str, queue_name: str) -> AsyncIterator[Running]:
    async with receiver(amqp_url=amqp_url, queue_name=queue_name) as started:
        await started.until_ready()
        yield started


def of_size(size: int) -> bytes:
    return b'{"text":"' + b"x" * (size - 11) + b'"}'


async def test_an_accepted_delivery_is_in_the_queue_as_it_was_sent(running: Running) -> None:
    before = time.time()
    answered = await running.send()
    assert (answered.status, answered.said) == (202, {"status": "accepted", "delivery": GUID})
    (message,) = await running.take_all()
    assert message.body == PAYLOAD
    assert (message.message_id, message.type, message.routing_key) == (GUID, "workflow_job", "workflow_job")
    headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}  # RabbitMQ's own
    received_at = headers.pop("received_at")
    assert isinstance(received_at, int)
    assert before - 1 < received_at / 1000 < time.time() + 1
    assert headers == {"hook_id": "292430182", "target_type": "repository", "target_id": "79929171"}


async def test_the_time_to_accept_is_observed_once_and_refusals_are_not(running: Running) -> None:
    await running.send()
    await running.send(secret="wrong")
    counted = await running.figures()
    assert figures.value(counted, "promgithub_webhook_ack_seconds_count") == 1
    assert 0 < figures.value(counted, "promgithub_webhook_ack_seconds_sum") < 5


async def test_a_duplicate_is_published_again(running: Running) -> None:
    for _ in range(3):
        assert (await running.send()).status == 202
    assert [message.message_id for message in await running.take_all()] == [GUID] * 3


async def test_a_ping_is_answered_and_not_published(running: Running) -> None:
    answered = await running.send(b'{"zen":"Keep it logically awesome."}', X_GitHub_Event="ping")
    assert (answered.status, answered.said) == (200, {"status": "pong", "delivery": GUID})
    assert await running.outcomes() == {"pong": 1}
    assert await running.take_all() == []


async def test_a_form_is_verified_as_sent_and_published_as_json(running: Running) -> None:
    body = urlencode({"payload": PAYLOAD}).encode()
    assert (await running.send(body, Content_Type="application/x-www-form-urlencoded")).status == 202
    of_the_json = sign(SECRET.encode(), PAYLOAD)
    refused = await running.send(
        body, Content_Type="application/x-www-form-urlencoded", X_Hub_Signature_256=of_the_json
    )
    assert refused.status == 401
    assert [message.body for message in await running.take_all()] == [PAYLOAD]


async def test_header_names_have_no_case_and_ids_become_lower(running: Running) -> None:
    head, _, body = request_bytes().partition(b"\r\n\r\n")
    line, _, headers = head.partition(b"\r\n")
    reader, writer = await running.connect()
    writer.write(
        line + b"\r\n" + headers.replace(GUID.encode(), GUID.upper().encode()).replace(b"X-GitHub", b"x-GITHUB")
    )
    writer.write(b"\r\n\r\n" + body)
    assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
    writer.close()
    (message,) = await running.take_all()
    assert (message.message_id, message.type) == (GUID, "workflow_job")


async def test_odd_bytes_in_headers_that_are_passed_on_do_no_harm(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(request_bytes().replace(b"292430182", NOT_ASCII).replace(b"repository", b"a b"))
    assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
    writer.close()
    (message,) = await running.take_all()
    assert {"hook_id", "target_type", "target_id"} & set(message.headers) == {"target_id"}


async def test_the_host_of_an_enterprise_server_is_in_the_message_in_lower_case(running: Running) -> None:
    assert (await running.send(X_GitHub_Enterprise_Host="GHES.Example.com:8443")).status == 202
    (message,) = await running.take_all()
    assert message.headers["host"] == "ghes.example.com"


async def test_a_delivery_that_waited_in_the_spool_has_its_host_in_the_message(
    amqp_url: str, queue_name: str, tmp_path: Path
) -> None:
    async with Proxy(amqp_url) as proxy:
        proxy.refuse()
        async with receiver(amqp_url=proxy.url, queue_name=queue_name, spool_dir=tmp_path) as running:
            answered = await running.send(X_GitHub_Enterprise_Host="ghes.example.com")
            assert (answered.status, answered.said["status"]) == (202, "spooled")
            assert (await running.send()).said["status"] == "spooled"
            await proxy.heal()

            async def forwarded() -> bool | None:
                return figures.value(await running.figures(), "promgithub_spool_forwarded_total") == 2 or None

            await until(forwarded, TIMEOUT)
            messages = await running.take_all()
    assert sorted(str(message.headers.get("host")) for message in messages) == ["None", "ghes.example.com"]


async def test_the_largest_body_is_accepted_and_arrives_whole(running: Running) -> None:
    body = of_size(MAX_BODY)
    assert (await running.send(body)).status == 202
    assert (await running.send(body, chunked=True)).status == 202
    first, second = await running.take_all()
    assert first.body == second.body == body


@pytest.mark.parametrize("chunked", [False, True])
async def test_one_byte_more_is_refused_while_it_is_read(running: Running, chunked: bool) -> None:
    answered = await running.send(of_size(MAX_BODY + 1), chunked=chunked)
    assert (answered.status, answered.said) == (413, {"error": f"a body may have at most {MAX_BODY} bytes"})
    assert await running.outcomes() == {"too_large": 1}


async def test_a_declared_size_that_is_too_large_is_refused_before_anything_is_read(running: Running) -> None:
    reader, writer = await running.connect()
    writer.write(request_bytes().replace(f"Content-Length: {len(PAYLOAD)}".encode(), b"Content-Length: 26214401")[:-5])
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


@pytest.mark.parametrize(
    ("status", "outcome", "says", "changed"),
    [
        (400, "bad_request", "X-GitHub-Delivery", {"X_GitHub_Delivery": None}),
        (400, "bad_request", "X-GitHub-Delivery", {"X_GitHub_Delivery": "not-a-guid"}),
        (400, "bad_request", "X-GitHub-Event", {"X_GitHub_Event": None}),
        (400, "bad_request", "X-GitHub-Event", {"X_GitHub_Event": "Work Flow"}),
        (400, "bad_request", "X-GitHub-Enterprise-Host", {"X_GitHub_Enterprise_Host": "https://ghes.example.com"}),
        (400, "bad_request", "X-GitHub-Enterprise-Host", {"X_GitHub_Enterprise_Host": "ghes " * 50}),
        (401, "bad_signature", "X-Hub-Signature-256", {"X_Hub_Signature_256": None}),
        (401, "bad_signature", "X-Hub-Signature-256", {"X_Hub_Signature_256": "sha256=" + "0" * 64}),
        (401, "bad_signature", "X-Hub-Signature-256", {"X_Hub_Signature_256": "sha1=" + "0" * 40}),
        (401, "bad_signature", "X-Hub-Signature-256", {"secret": "another"}),
        (404, "unsupported", "POST /webhook", {"path": "/"}),
        (404, "unsupported", "POST /webhook", {"path": "/webhook/"}),
        (404, "unsupported", "POST /webhook", {"path": "/metrics"}),
        (404, "unsupported", "POST /webhook", {"path": "/readyz"}),
        (405, "unsupported", "POST /webhook", {"method": "PUT"}),
        (405, "unsupported", "POST /webhook", {"method": "GET"}),
        (415, "unsupported", "application/json", {"Content_Type": None}),
        (415, "unsupported", "application/json", {"Content_Type": "text/plain"}),
        (415, "unsupported", "Content-Encoding", {"Content_Encoding": "gzip"}),
    ],
)
async def test_a_request_that_github_does_not_send_is_refused_with_what_is_accepted(
    running: Running,
    status: int,
    outcome: str,
    says: str,
    changed: Mapping[str, str],
) -> None:
    answered = await running.send(**changed)  # type: ignore[arg-type]
    assert answered.status == status
    assert list(answered.said) == ["error"]
    assert says in answered.said["error"]
    assert answered.headers.get("Allow") == ("POST" if status == 405 else None)
    assert answered.headers["Server"] == "promgithub"
    assert await running.outcomes() == {outcome: 1}
    assert await running.take_all() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"a":', b'{"a":"\xff"}', b'{"a":' * 200_000, b'{"a":' + b"[" * 2_000_000],
    ids=["empty", "array", "cut", "not-utf8", "deep", "large-and-deep"],
)
async def test_a_signed_body_that_is_no_json_object_is_refused(running: Running, body: bytes) -> None:
    answered = await running.send(body)
    assert answered.status == 400
    assert "payload" in answered.said["error"]
    assert await running.outcomes() == {"bad_request": 1}
    assert await running.take_all() == []


async def test_the_signature_is_checked_before_the_body_is_parsed(running: Running) -> None:
    assert (await running.send(b"{", secret="wrong")).status == 401
    assert (await running.send(b"{", secret="wrong", X_GitHub_Delivery=None)).status == 401


async def test_a_delivery_is_counted_by_its_event_and_made_up_events_as_other(running: Running) -> None:
    for event in ("push", "made_up", "other_made_up"):
        assert (await running.send(X_GitHub_Event=event)).status == 202
    counted = await running.figures()
    name = "promgithub_webhook_requests_total"
    assert figures.value(counted, name, event="push", outcome="accepted") == 1
    assert figures.value(counted, name, event="other", outcome="accepted") == 2
    assert {dict(labels)["event"] for (found, labels) in counted if found == name} >= {"workflow_run", "other"}
    assert figures.value(counted, name, event="workflow_run", outcome="queue_full") == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n",
    ],
    ids=["tls", "http2", "negative-length", "bad-chunk", "long-header"],
)
async def test_what_is_not_http_is_refused_in_json_and_counted(running: Running, sent: bytes) -> None:
    reader, writer = await running.connect()
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer.splitlines()[0]
    assert answer.endswith(
        b'{"error":"the request must be well-formed HTTP/1.1 with headers of at most 8190 bytes each"}\n'
    )
    assert await running.outcomes() == {"bad_request": 1}


async def test_expect_100_continue_is_answered_or_the_request_is_refused_before_the_body(running: Running) -> None:
    head, _, body = request_bytes(Expect="100-continue").partition(b"\r\n\r\n")
    reader, writer = await running.connect()
    writer.write(head + b"\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(body)
    assert await reader.readline() == b"\r\n"
    assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
    writer.close()
    reader, writer = await running.connect()
    writer.write(head.replace(b"application/json", b"text/plain") + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 415 ")
    writer.close()


async def test_a_client_that_disconnects_is_counted_and_frees_its_memory(running: Running) -> None:
    _, writer = await running.connect()
    writer.write(request_bytes()[:-3])
    await running.in_flight(1)
    writer.close()
    await running.in_flight(0)
    assert await running.outcomes() == {"bad_request": 1}


async def test_a_kept_connection_serves_one_delivery_after_the_other(running: Running) -> None:
    reader, writer = await running.connect()
    for status in (202, 401, 202):
        wrong = {"X-Hub-Signature-256": "sha256="} if status == 401 else {}
        writer.write(request_bytes(**wrong))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        await reader.readline()
    writer.close()


async def test_many_at_once_are_each_accepted_once(running: Running) -> None:
    ids = [f"72d3162e-cc78-11e3-81ab-{number:012x}" for number in range(300)]
    answers = await asyncio.gather(*(running.send(X_GitHub_Delivery=delivery_id) for delivery_id in ids))
    assert {answered.status for answered in answers} == {202}
    assert sorted(str(message.message_id) for message in await running.take_all()) == ids
    assert await running.outcomes() == {"accepted": 300}
