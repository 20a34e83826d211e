"""A wall clock that jumps an hour back or forward under load: nothing is lost or doubled, and everything goes on."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from promgithub.simulation.histories import Historian, History
from tests import figures
from tests.github import SECRET, GitHub, until
from tests.processes import PROMGITHUB, Launcher, Process

HOUR = 3600.0
JUMPS = (-HOUR, HOUR, 0.0)
SENDING_SECONDS = 6.0
TAKEOVER_SECONDS = 15.0
RENEWAL_SECONDS = 4.0
"""Seconds, at most, until a lease is renewed that ended because the database's own clock jumped."""


class Clock:
    """The wall clock of some processes; the clock by which they measure time does not move."""

    def __init__(self, library: str, file: Path) -> None:
        """`library` is that of faketime, `file` says where the clock is."""
        self._library = library
        self._file = file
        self.set(0)

    @property
    def command(self) -> list[str]:
        """What to put before a command that is to live by this clock."""
        settings = {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # which would keep threads waiting for seconds
        }
        return ["env", *(f"{name}={value}" for name, value in settings.items())]

    def set(self, offset: float) -> None:
        """Set the clock to the true time plus so many seconds."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{offset:+.0f}\n")
        written.replace(self._file)


MakeClock = Callable[[str], Clock]


@pytest.fixture
def make_clock(libfaketime: str, tmp_path: Path) -> MakeClock:
    """Give a function that makes a clock of some name."""
    return lambda name: Clock(libfaketime, tmp_path / f"{name}.clock")


async def offset_of(process: Process) -> float:
    """Return by how many seconds the clock of a process differs from the true time."""
    async with aiohttp.ClientSession() as client, client.get(f"{process.admin_url}/livez") as answer:
        return (parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)).total_seconds()


async def jump_under_load(github: GitHub, truth: History, receiver: Process, clocks: dict[Clock, Process]) -> None:
    """Send a history while the clocks jump, every other one the other way."""
    sending = asyncio.create_task(github.deliver_all(receiver, truth.deliveries, over=SENDING_SECONDS))
    for jump in JUMPS:
        await asyncio.sleep(SENDING_SECONDS / (len(JUMPS) + 1))
        for (clock, process), sign in zip(clocks.items(), (1, -1), strict=False):
            clock.set(sign * jump)
            assert await offset_of(process) == pytest.approx(sign * jump, abs=5)
    assert await sending == 0


async def leads(github: GitHub, process: Process) -> bool:
    return figures.total(await github.figures(process), "promgithub_exporter_leader") == 1


async def until_leading(github: GitHub, process: Process, within: float) -> None:
    async def leading() -> bool | None:
        return await leads(github, process) or None

    await until(leading, within)


async def always_leads(github: GitHub, process: Process) -> None:
    while True:
        assert await leads(github, process)
        await asyncio.sleep(0.1)


async def test_a_receiver_and_a_processor_whose_clocks_jump_lose_nothing_and_the_leader_keeps_its_lease(
    amqp_url: str, queue_name: str, database_url: str, github: GitHub, make_clock: MakeClock, launcher: Launcher
) -> None:
    shared = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name}
    one, other = make_clock("receiver"), make_clock("processor")
    receiver = launcher.start_command([*one.command, PROMGITHUB, "ingest"], WEBHOOK_SECRET=SECRET, **shared)
    processor = launcher.start_command([*other.command, PROMGITHUB, "processor"], DATABASE_URL=database_url, **shared)
    await asyncio.gather(receiver.ready(), processor.ready())
    await until_leading(github, processor, TAKEOVER_SECONDS)

    truth = Historian(71).history(420)
    async with asyncio.TaskGroup() as watch:
        watching = watch.create_task(always_leads(github, processor))
        await jump_under_load(github, truth, receiver, {one: receiver, other: processor})
        counted = await github.settled(truth, processor, within=30)
        watching.cancel()
    assert figures.total(counted, "promgithub_dead_letters") == 0
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == 0
    assert (await receiver.terminate(), await processor.terminate()) == (0, 0)


async def test_a_standalone_whose_clock_jumps_loses_nothing_and_exposes_again_within_a_renewal(
    github: GitHub, make_clock: MakeClock, launcher: Launcher, tmp_path: Path
) -> None:
    clock = make_clock("standalone")
    command = [*clock.command, PROMGITHUB, "standalone", "--data-dir", str(tmp_path / "data")]
    standalone = launcher.start_command(command, WEBHOOK_SECRET=SECRET)
    await standalone.ready()
    truth = Historian(72).history(420)
    await jump_under_load(github, truth, standalone, {clock: standalone})
    counted = await github.settled(truth, standalone, within=30)
    assert figures.total(counted, "promgithub_dead_letters") == 0

    for jump in JUMPS:
        clock.set(jump)
        await until_leading(github, standalone, RENEWAL_SECONDS)
        await github.settled(truth, standalone, within=RENEWAL_SECONDS)


async def test_a_standalone_killed_before_its_clock_is_set_back_goes_on_where_it_was(
    github: GitHub, make_clock: MakeClock, launcher: Launcher, tmp_path: Path
) -> None:
    clock = make_clock("standalone")
    clock.set(HOUR)
    command = [*clock.command, PROMGITHUB, "standalone", "--data-dir", str(tmp_path / "data")]
    standalone = launcher.start_command(command, WEBHOOK_SECRET=SECRET)
    await standalone.ready()
    truth = Historian(73).history(140)
    half = len(truth.deliveries) // 2
    assert await github.send_all(standalone, truth.deliveries[:half]) == {202: half}
    await standalone.kill()
    clock.set(0)
    standalone.start()
    await standalone.ready()
    await github.send_all(standalone, truth.deliveries)
    await github.settled(truth, standalone, within=15)
