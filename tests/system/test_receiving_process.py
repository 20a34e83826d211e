"""The receiving process of standalone: what happens to it, and what it brings about."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from promgithub.simulation.histories import Historian
from tests.support import figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process, resident_bytes

Standalone = Callable[[], Process]

GITHUB_SECONDS = 10.0
"""How long GitHub waits for an answer."""

SOON = 10.0


@pytest.fixture
def standalone(launcher: Launcher, tmp_path: Path) -> Standalone:
    """Give a function that starts standalone on the test's data directory."""
    return lambda: launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET)


def receiver_of(process: Process) -> int:
    """Return the ID of the receiving process (Linux)."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def exists(pid: int) -> bool:
    """Return whether a process exists (Linux)."""
    return Path(f"/proc/{pid}").exists()


async def gone(pid: int) -> None:
    """Wait until a process has ended."""

    async def ended() -> bool | None:
        return None if exists(pid) else True

    await until(ended, SOON)


async def test_without_its_receiving_process_standalone_ends_and_a_restart_loses_nothing(
    standalone: Standalone, github: GitHub
) -> None:
    process = standalone()
    await process.ready()
    truth = Historian(31).history(420)
    half = len(truth.deliveries) // 2
    assert await github.send_all(process, truth.deliveries[:half]) == {202: half}
    os.kill(receiver_of(process), signal.SIGKILL)
    assert await process.ended(SOON) == 1
    assert "promgithub: the receiving process has ended (signal 9)" in process.log
    process.start()
    await process.ready()
    assert await github.send_all(process, truth.deliveries[half:]) == {202: len(truth.deliveries) - half}
    await github.settled(truth, process)


async def test_the_receiving_process_ends_with_a_standalone_that_was_killed(standalone: Standalone) -> None:
    process = standalone()
    await process.ready()
    receiver = receiver_of(process)
    os.kill(process.pid, signal.SIGKILL)
    await gone(receiver)


async def test_a_signal_to_both_processes_stops_them_in_order(standalone: Standalone, github: GitHub) -> None:
    process = standalone()
    await process.ready()
    receiver = receiver_of(process)
    truth = Historian(32).history(140)
    sending = asyncio.create_task(github.deliver_all(process, truth.deliveries))
    for pid in (receiver, process.pid):
        os.kill(pid, signal.SIGINT)  # as Ctrl-C in a terminal
    assert await process.ended(SOON) == 0
    assert not exists(receiver)
    assert "receiver stopped" in process.log
    process.start()
    await process.ready()
    await asyncio.wait_for(sending, 60)
    await github.settled(truth, process)


async def test_while_the_counting_process_does_not_answer_deliveries_are_refused_in_time(
    standalone: Standalone, github: GitHub
) -> None:
    process = standalone()
    await process.ready()
    truth = Historian(33).history(140)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(GITHUB_SECONDS):
            assert await github.send_all(process, truth.deliveries[:20]) == {503: 20}
    finally:
        os.kill(process.pid, signal.SIGCONT)
    # What was refused may have been stored meanwhile. It has the same IDs, so it is not counted twice.
    assert await github.send_all(process, truth.deliveries) == {202: len(truth.deliveries)}
    await github.settled(truth, process)


async def test_the_metrics_of_the_process_are_those_of_both(standalone: Standalone, github: GitHub) -> None:
    process = standalone()
    await process.ready()
    truth = Historian(34).history(140)
    await github.send_all(process, truth.deliveries)
    both = process.resident + resident_bytes(receiver_of(process))
    async with aiohttp.ClientSession() as client, client.get(f"{process.admin_url}/metrics") as answer:
        page = figures.of_text(await answer.text())
    assert figures.total(page, "process_resident_memory_bytes") == pytest.approx(both, rel=0.1)
    assert figures.total(page, "promgithub_webhook_requests_total") == len(truth.deliveries)
    assert figures.total(page, "promgithub_spool_capacity_deliveries") > 0
