"""A process that runs out of file descriptors says so, loses no accepted delivery, and recovers by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from yarl import URL

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import SECRET, GitHub
from tests.support.processes import PROMGITHUB, Launcher, Process

LIMIT = 96


AGAIN_SECONDS = 0.5
"""Seconds until a connection that the process closed is opened again."""


@asynccontextmanager
async def idle_connections(process: Process, count: int) -> AsyncIterator[None]:
    """Keep connections open on which nothing is sent. Each one that the process closes is opened again."""
    url = URL(process.service_url)

    async def keep_open() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                with closing(writer):
                    await reader.read()
            await asyncio.sleep(AGAIN_SECONDS)

    keeping = [asyncio.create_task(keep_open()) for _ in range(count)]
    yield
    for task in keeping:
        task.cancel()
    await asyncio.wait(keeping)


async def test_a_process_without_a_free_file_descriptor_logs_and_counts_it_and_loses_no_accepted_delivery(
    launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    command = ["prlimit", f"--nofile={LIMIT}", PROMGITHUB, "standalone", "--data-dir", str(tmp_path / "data")]
    standalone = launcher.start_command(command, WEBHOOK_SECRET=SECRET)
    await standalone.ready()
    assert figures.value(await github.figures(standalone), "promgithub_file_descriptors_exhausted_total") == 0
    truth = Historian(65).history(280)
    sending = asyncio.create_task(github.deliver_all(standalone, truth.deliveries, over=5))
    await github.drained(standalone, processed=10)

    async with idle_connections(standalone, 2 * LIMIT):
        await standalone.says("no free file descriptor")
    await asyncio.wait_for(sending, 60)
    counted = await github.settled(truth, standalone)
    assert figures.value(counted, "promgithub_file_descriptors_exhausted_total") > 0
