"""Pages of metrics of a process that is measured."""

import asyncio

import aiohttp

from tests.support.processes import Process

PATIENCE = aiohttp.ClientTimeout(total=60)
"""How long a scrape may take."""

DEPTH = "promgithub_event_queue_depth"
"""The metric with the deliveries in the queue."""

_LEADER = "\npromgithub_exporter_leader 1"
_LEASE_SECONDS = 30.0
_COUNTING_SECONDS = 120.0


async def leaders_page(client: aiohttp.ClientSession, processor: Process) -> str:
    """Wait until a processor holds the lease; return its page as text."""
    async with asyncio.timeout(_LEASE_SECONDS):
        while _LEADER not in (page := await get_page(client, processor)):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.5)
    return page


async def counted_all(client: aiohttp.ClientSession, processor: Process) -> None:
    """Wait until a processor has counted every delivery that it and its queue hold."""
    async with asyncio.timeout(_COUNTING_SECONDS):
        while True:
            page = await get_page(client, processor)
            if not value(page, DEPTH) and not value(page, "promgithub_event_held"):
                return
            await asyncio.sleep(0.5)


def value(page: str, name: str) -> float:
    """Return the value of a sample without labels, 0 if there is none."""
    return next((float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} ")), 0.0)


async def get_page(client: aiohttp.ClientSession, process: Process, accept: str = "text/plain") -> str:
    """Return the page of a process in a format, not compressed."""
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    async with client.get(f"{process.admin_url}/metrics", headers=headers) as answer:
        return await answer.text()
