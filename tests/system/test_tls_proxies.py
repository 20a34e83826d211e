"""The configurations of `deploy/proxies` in real proxies: a delivery comes through unchanged, and nothing else does."""

import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.github import SECRET, GitHub, headers
from tests.support.processes import Launcher, Process
from tests.support.servers.tls_proxies import NAME, Caddy, Nginx, TlsProxy

LARGEST = 25 * 1024 * 1024
"""What GitHub sends at most, in bytes (GitHub docs, "Webhook events and payloads")."""

ADMIN_PATHS = (
    "/",
    "/metrics",
    "/readyz",
    "/livez",
    "/api/v1/open",
    "/webhook/",
    "/webhook/../metrics",
    "/webhook%2f..%2fmetrics",
)


@pytest.fixture
async def standalone(launcher: Launcher) -> Process:
    """Give a promgithub that has both listeners."""
    process = launcher.start("standalone", WEBHOOK_SECRET=SECRET)
    await process.ready()
    return process


@pytest_asyncio.fixture(params=[Nginx, Caddy])
async def proxy(request: pytest.FixtureRequest, standalone: Process) -> AsyncIterator[TlsProxy]:
    """Give each proxy in turn."""
    async with request.param(standalone.service_url) as started:
        yield started


@pytest_asyncio.fixture
async def client(proxy: TlsProxy) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a client that trusts the proxy's certificate, and no other."""
    context = ssl.create_default_context()
    proxy.authority.configure_trust(context)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


def large(size: int) -> Delivery:
    """Return a push whose body has this many bytes."""
    room = size - len(builders.delivery(builders.push() | {"padding": ""}).body)
    made = builders.delivery(builders.push() | {"padding": "x" * room})
    assert len(made.body) == size
    return made


async def test_signed_deliveries_come_through_tls_unchanged_up_to_the_largest_and_nothing_else_does(
    proxy: TlsProxy, standalone: Process, client: aiohttp.ClientSession, github: GitHub
) -> None:
    async def send(delivery: Delivery, secret: str = SECRET) -> int:
        given = headers(delivery, secret) | {"Host": NAME}
        async with client.post(
            f"{proxy.url}/webhook", data=delivery.body, headers=given, server_hostname=NAME
        ) as answer:
            return answer.status

    assert await send(builders.delivery(builders.push())) == 202
    assert await send(large(LARGEST)) == 202
    assert await send(large(LARGEST + 2 * 1024 * 1024)) == 413
    assert await send(builders.delivery(builders.push()), "another secret") == 401
    await standalone.says('"forwarded_for": "127.0.0.1"')
    counted = await github.drained(standalone, processed=2)
    assert figures.total(counted, "promgithub_push_total") == 2

    for path in ADMIN_PATHS:
        url = URL(f"{proxy.url}{path}", encoded=True)
        async with client.get(url, headers={"Host": NAME}, server_hostname=NAME) as answer:
            assert (path, answer.status) == (path, 404)
