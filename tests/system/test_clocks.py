"""The wall clock jumps by an hour under load: no delivery is lost or counted twice, and all processes continue."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import mkdtemp

import aiohttp
import pytest

from promgithub.simulation.histories import Historian, History
from tests.support import figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.postgres import PostgresServer

HOUR = 3600.0
DAYS_40 = 40 * 24 * HOUR
JUMPS = (-HOUR, HOUR, 0.0)
LONG_GRACE = "3h"
"""So that nothing is settled if a chore runs while the clock is ahead. It is longer than from jump to jump."""

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


@pytest.fixture
def readable_clock(libfaketime: str) -> Iterator[Clock]:
    """Give a clock for a server that runs as another user, who may not read the test's own directory."""
    directory = Path(mkdtemp(prefix="promgithub-test-clock-"))
    directory.chmod(0o755)
    yield Clock(libfaketime, directory / "server.clock")
    shutil.rmtree(directory)


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
    standalone = launcher.start_command(command, WEBHOOK_SECRET=SECRET, GRACE=LONG_GRACE)
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


async def deletion_waits(github: GitHub, process: Process) -> None:
    """Wait until a process has looked for expired rows, and deletes nothing because there are too many."""

    async def waits() -> bool | None:
        page = await github.figures(process)
        return figures.total(page, "promgithub_retention_waiting") > 0 or None

    await until(waits, 60)


async def count_over_a_wrong_clock(github: GitHub, clock: Clock, receiver: Process, processor: Process) -> None:
    """Count a history, let a processor start while the clock is 40 days ahead, and send the history again."""
    truth = Historian(74).history(1400)
    await github.send_all(receiver, truth.deliveries)
    before = await github.settled(truth, processor, within=60)
    assert await processor.terminate() == 0
    clock.set(DAYS_40)
    processor.start()
    await processor.ready()
    await deletion_waits(github, processor)
    clock.set(0)
    await until_leading(github, processor, TAKEOVER_SECONDS)
    await github.send_all(receiver, truth.deliveries)

    async def all_duplicates() -> figures.Figures | None:
        page = await github.figures(processor)
        dropped = figures.total(page, "promgithub_duplicate_deliveries_dropped_total")
        return page if dropped == len(truth.deliveries) else None

    # Open runs and jobs may have been closed as stale meanwhile, so gauges may differ.
    figures.assert_never_down(figures.of_ci(before), figures.of_ci(await until(all_duplicates, 60)))


async def test_a_standalone_whose_clock_is_40_days_ahead_for_a_while_deletes_nothing(
    github: GitHub, make_clock: MakeClock, launcher: Launcher, tmp_path: Path
) -> None:
    clock = make_clock("standalone")
    command = [*clock.command, PROMGITHUB, "standalone", "--data-dir", str(tmp_path / "data")]
    standalone = launcher.start_command(command, WEBHOOK_SECRET=SECRET)
    await standalone.ready()
    await count_over_a_wrong_clock(github, clock, standalone, standalone)


@pytest.mark.drill
async def test_a_postgresql_whose_clock_is_40_days_ahead_for_a_while_deletes_nothing(
    amqp_url: str, queue_name: str, github: GitHub, readable_clock: Clock, launcher: Launcher
) -> None:
    server = PostgresServer(prefix=readable_clock.command)
    try:
        await server.start()
        shared = {"AMQP_URL": amqp_url, "QUEUE_NAME": queue_name}
        receiver = launcher.start("ingest", WEBHOOK_SECRET=SECRET, **shared)
        processor = launcher.start("processor", DATABASE_URL=server.url, **shared)
        await asyncio.gather(receiver.ready(), processor.ready())
        await count_over_a_wrong_clock(github, readable_clock, receiver, processor)
    finally:
        launcher.close()
        server.close()
