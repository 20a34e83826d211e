"""The admin listener: `/livez` tests no dependency, `/readyz` tests all, `/metrics` has the requested format."""

import asyncio
import gzip
import io
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shared import logs
from shared.admin import metrics_page
from shared.admin.health import Check
from shared.admin.metrics_page import MOST_READERS, SLICE, Gather
from shared.admin.server import AdminServer, standard_routes
from shared.errors import SettingsError
from tests.support.github import until
from tests.support.servers.ports import free_port

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 3 sends as `Accept` (its default `scrape_protocols`)."""


async def fine() -> None:
    return


async def broken() -> None:
    raise ConnectionError("password=hunter2")


async def stuck() -> None:
    await asyncio.sleep(60)


@asynccontextmanager
async def serving(**checks: Check) -> AsyncIterator[tuple[asyncio.Event, str]]:
    """Serve a small page; give the event that says that the process stops, and the URL."""
    registry = CollectorRegistry()
    Counter("things", "Things.", ["kind"], registry=registry).labels('a"b\\c\n').inc(3)
    Histogram("waits_seconds", "Waits.", registry=registry).observe(1)

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        return registry

    port = free_port()
    stop = asyncio.Event()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, checks, stop))
    await server.start()
    try:
        yield stop, f"http://127.0.0.1:{port}"
    finally:
        await server.close()


@asynccontextmanager
async def serving_much(series: int) -> AsyncIterator[str]:
    """Serve a page of so many series, of 100 bytes and more each."""
    registry = CollectorRegistry()
    things = Counter("things", "Things.", ["kind"], registry=registry)
    for kind in range(series):
        things.labels(f"{kind:0>100}").inc()

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        return registry

    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()))
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.close()


@asynccontextmanager
async def serving_families(gather: Gather) -> AsyncIterator[str]:
    """Serve what `gather` returns."""
    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()))
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.close()


async def get(url: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with aiohttp.ClientSession(auto_decompress=False) as client, client.get(url, headers=headers) as answer:
        body = await answer.read()
        text = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
        return answer.status, text.decode(), dict(answer.headers)


async def test_liveness_does_not_test_the_dependencies() -> None:
    async with serving(database=broken) as (_, url):
        status, _, _ = await get(f"{url}/livez")
        assert status == 200


async def test_readiness_tests_every_dependency_and_shows_no_details() -> None:
    async with serving(broker=fine) as (_, url):
        assert (await get(f"{url}/readyz"))[0] == 200
    async with serving(broker=fine, database=broken) as (_, url):
        status, page, _ = await get(f"{url}/readyz")
        assert status == 503
        assert '"broker": "ok"' in page
        assert "hunter2" not in page


async def test_a_dependency_that_does_not_answer_is_not_waited_for() -> None:
    async with serving(database=stuck) as (_, url):
        async with asyncio.timeout(5):
            status, page, _ = await get(f"{url}/readyz")
        assert (status, "no answer" in page) == (503, True)


async def test_a_process_about_to_stop_is_not_ready_but_alive() -> None:
    async with serving(broker=fine) as (stop, url):
        stop.set()
        assert (await get(f"{url}/readyz"))[0] == 503
        assert (await get(f"{url}/livez"))[0] == 200


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/plain", "text/html", "application/openmetrics-text; version=0.0.1"]
)
async def test_text_is_the_default_and_has_no_created_series(accept: str) -> None:
    async with serving() as (_, url):
        status, page, headers = await get(f"{url}/metrics", Accept=accept)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in parse_text(page)}
    assert set(families) == {"things", "waits_seconds"}
    assert families["things"].samples[0].labels == {"kind": 'a"b\\c\n'}


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.8", "application/openmetrics"),
        ("application/openmetrics-text; q=0.5, */*; q=0.5", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=zzz", "text/plain"),
        (PROMETHEUS_3, "application/openmetrics-text; version=1.0.0"),
    ],
)
async def test_openmetrics_is_given_to_a_scraper_that_accepts_it(accept: str, given: str) -> None:
    async with serving() as (_, url):
        status, _, headers = await get(f"{url}/metrics", Accept=accept)
    assert (status, headers["Content-Type"].startswith(given)) == (200, True)


async def test_openmetrics_is_given_to_who_asks_and_says_since_when() -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3"
    async with serving() as (_, url):
        _, page, headers = await get(f"{url}/metrics", Accept=accept)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    samples = {
        sample.name
        for family in parse_openmetrics(page)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert {"things_total", "things_created", "waits_seconds_created"} <= samples


async def test_metrics_are_compressed_if_the_scraper_accepts_gzip() -> None:
    async with serving() as (_, url):
        plain = await get(f"{url}/metrics", **{"Accept-Encoding": "identity"})
        packed = await get(f"{url}/metrics", **{"Accept-Encoding": "deflate, gzip;q=0.5"})
    assert packed[2]["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain[2]
    assert plain[1] == packed[1]


async def test_a_page_of_many_slices_arrives_whole_and_its_head_without_it() -> None:
    async with serving_much(10_000) as url, aiohttp.ClientSession() as client:
        for _ in range(2):  # on one connection
            async with client.head(f"{url}/metrics") as head:
                assert await head.read() == b""
            async with client.get(f"{url}/metrics") as answer:
                page = await answer.text()
    assert len(page) > 2 * SLICE
    [family] = parse_text(page)
    assert len(family.samples) == 10_000


async def test_a_scraper_that_hangs_up_in_the_middle_is_no_error() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    async with serving_much(60_000) as url:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n")
            writer.transport.abort()
        assert (await get(f"{url}/livez"))[0] == 200
    assert "Error" not in stream.getvalue()


async def test_pages_are_made_one_at_a_time_however_many_scrape() -> None:
    making = most = 0

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        nonlocal making, most
        making += 1
        most = max(most, making)
        await asyncio.sleep(0.01)
        making -= 1
        return CollectorRegistry()

    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()))
    await server.start()
    try:
        answers = await asyncio.gather(*(get(f"http://127.0.0.1:{port}/metrics") for _ in range(MOST_READERS)))
    finally:
        await server.close()
    assert [status for status, _, _ in answers] == [200] * MOST_READERS
    assert most == 1


async def test_requests_that_wait_share_a_page_that_is_rendered_after_they_came() -> None:
    gathered = 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        nonlocal gathered
        gathered += 1
        registry = CollectorRegistry()
        Counter("gathered", "Times.", registry=registry).inc(gathered)
        begun.set()
        await go_on.wait()
        return registry

    async with serving_families(gather) as url:
        first = asyncio.create_task(get(f"{url}/metrics"))
        await begun.wait()
        others = [asyncio.create_task(get(f"{url}/metrics")) for _ in range(7)]
        refused = 8 - MOST_READERS
        assert [(await one)[0] for one in itertools.islice(asyncio.as_completed(others), refused)] == [503] * refused
        go_on.set()
        assert "gathered_total 1.0" in (await first)[1]
        pages = [page for status, page, _ in await asyncio.gather(*others) if status == 200]
        assert ["gathered_total 2.0" in page for page in pages] == [True] * (MOST_READERS - 1)


async def test_readers_that_stall_keep_four_pages_at_most_and_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_page, "TAKE_SECONDS", 10.0)
    registry = CollectorRegistry()
    Counter("large", "x" * 30_000_000, registry=registry)  # more than the kernel's buffers of both ends take

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        return registry

    statuses = []
    writers = []
    async with serving_families(gather) as url:
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            statuses.append((await reader.readuntil(b"\r\n")).split()[1])
            writers.append(writer)
        assert statuses == [b"200"] * MOST_READERS + [b"503"] * (30 - MOST_READERS)

        async def answered() -> bool | None:
            return (await get(f"{url}/metrics"))[0] == 200 or None

        await until(answered, 60)
    for writer in writers:
        writer.close()


async def test_a_scraper_that_reads_nothing_does_not_hold_up_the_end() -> None:
    async with serving_much(60_000) as url:  # more than the kernel's buffers of both ends take
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n")
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    writer.close()


async def test_the_log_quotes_nothing_of_a_request_that_is_not_http() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)
    async with serving() as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /livez HTTP/1.1\r\nAutho rization: hunter2\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.0 400")
        writer.close()
    assert "Error handling request" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


async def test_a_page_of_the_process_itself_is_served_beside_the_standard_ones() -> None:
    async def status(_request: web.Request) -> web.Response:
        return web.Response(text="fine")

    async def gather(*, openmetrics: bool) -> CollectorRegistry:
        return CollectorRegistry()

    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(gather, {}, asyncio.Event()) | {"/status": status})
    await server.start()
    try:
        assert (await get(f"http://127.0.0.1:{port}/status"))[:2] == (200, "fine")
        assert (await get(f"http://127.0.0.1:{port}/livez"))[0] == 200
    finally:
        await server.close()


async def test_a_port_in_use_is_named_with_its_setting() -> None:
    async with serving() as (_, url):
        server = AdminServer("127.0.0.1", int(url.rpartition(":")[2]), {})
        with pytest.raises(SettingsError, match=r"^PROMGITHUB_ADMIN_PORT: cannot listen on 127\.0\.0\.1:\d+ \(Address"):
            await server.start()


async def test_an_address_of_another_machine_is_named_with_its_setting() -> None:
    server = AdminServer("203.0.113.1", 8081, {})
    with pytest.raises(SettingsError, match=r"^PROMGITHUB_ADMIN_HOST: cannot listen on .*; takes an address of this"):
        await server.start()
