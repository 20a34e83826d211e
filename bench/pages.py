"""Pages of metrics of a process that is measured."""

import asyncio

import aiohttp

from tests.support.processes import Process

PATIENCE = aiohttp.ClientTimeout(total=60)
"""How long a scrape may take."""

_LEADER = "\npromgithub_exporter_leader 1"
_LEASE_SECONDS = 30.0


async def leaders_page(client: aiohttp.ClientSession, processor: Process) -> str:
    """Wait until a processor holds the lease; return its page as text."""
    async with asyncio.timeout(_LEASE_SECONDS):
        while _LEADER not in (page := await get_page(client, processor)):  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.5)
    return page


async def get_page(client: aiohttp.ClientSession, process: Process, accept: str = "text/plain") -> str:
    """Return the page of a process in a format, not compressed."""
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    async with client.get(f"{process.admin_url}/metrics", headers=headers) as answer:
        return await answer.text()
