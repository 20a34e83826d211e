"""The admin listener: liveness tests nothing, readiness tests everything, metrics come in the form asked for."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shared.admin import AdminServer
from shared.errors import SettingsError
from tests.servers.ports import free_port

Check = Callable[[], Awaitable[None]]


async def fine() -> None:
    return


async def nothing() -> CollectorRegistry:
    return CollectorRegistry()


async def broken() -> None:
    raise ConnectionError("password=hunter2")


async def stuck() -> None:
    await asyncio.sleep(60)


@asynccontextmanager
async def serving(**checks: Check) -> AsyncIterator[tuple[AdminServer, str]]:
    registry = CollectorRegistry()
    Counter("things", "Things.", ["kind"], registry=registry).labels('a"b\\c\n').inc(3)
    Histogram("waits_seconds", "Waits.", registry=registry).observe(1)

    async def gather() -> CollectorRegistry:
        return registry

    port = free_port()
    server = AdminServer("127.0.0.1", port, gather, checks)
    await server.start()
    try:
        yield server, f"http://127.0.0.1:{port}"
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
    async with serving(broker=fine) as (server, url):
        server.drain()
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


async def test_metrics_are_compressed_for_who_asks() -> None:
    async with serving() as (_, url):
        plain = await get(f"{url}/metrics", **{"Accept-Encoding": "identity"})
        packed = await get(f"{url}/metrics", **{"Accept-Encoding": "gzip"})
    assert packed[2]["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain[2]
    assert plain[1] == packed[1]


async def test_a_port_in_use_is_named_with_its_setting() -> None:
    async with serving() as (_, url):
        server = AdminServer("127.0.0.1", int(url.rpartition(":")[2]), nothing, {})
        with pytest.raises(SettingsError, match=r"^PROMGITHUB_ADMIN_PORT: cannot listen on 127\.0\.0\.1"):
            await server.start()
