"""A disk that fills, fails, or loses its files costs no accepted delivery, and none is counted twice."""

import asyncio
import os
import shutil
import signal
import sqlite3
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.disks import MIB, Disk, image_disk, make_image, memory_disk
from tests.support.figures import Figures
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher, Process
from tests.support.servers.rabbitmq import QUEUE_SETTLED_SECONDS, RabbitServer

# Disks are filled, and processes restarted several times.
pytestmark = pytest.mark.timeout(300)

Start = Callable[..., Process]

DISK_BYTES = 160 * MIB
DRAIN_SECONDS = 90
# Within this time, a process that gets deliveries writes enough for a checkpoint.
KILL_SECONDS = 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Give a small disk. Ask for it before `launcher`, so that the processes end before it is unmounted."""
    with memory_disk(tmp_path / "disk", DISK_BYTES) as mounted:
        yield mounted


@pytest.fixture
def start_standalone(disk: Disk, launcher: Launcher) -> Start:
    """Give a function that starts standalone on the small disk."""

    def start() -> Process:
        return launcher.start("standalone", "--data-dir", str(disk.directory / "data"), WEBHOOK_SECRET=SECRET)

    return start


@pytest_asyncio.fixture
async def receiver(
    disk: Disk, private_rabbit: RabbitServer, broker: Mapping[str, str], launcher: Launcher
) -> AsyncIterator[Process]:
    """Give a receiver whose spool is on the small disk, and whose RabbitMQ may be killed."""
    started = launcher.start("ingest", WEBHOOK_SECRET=SECRET, SPOOL_DIR=str(disk.directory / "spool"), **broker)
    await started.ready()
    await asyncio.sleep(QUEUE_SETTLED_SECONDS)
    yield started


@pytest.fixture
def broker(private_rabbit: RabbitServer, request: pytest.FixtureRequest) -> Mapping[str, str]:
    return {"AMQP_URL": private_rabbit.url, "QUEUE_NAME": request.node.name[:200]}


def bulky(count: int, size: int = 1_000_000) -> list[Delivery]:
    """Return pushes of `size` bytes each."""
    return [builders.delivery(builders.push() | {"compare": "x" * size}) for _ in range(count)]


async def accepted_until_full(github: GitHub, process: Process) -> int:
    """Send bulky deliveries until one after the other is refused; return how many were accepted."""
    accepted = 0
    for _ in range(100):
        answers = await github.send_all(process, bulky(16))
        assert set(answers) <= {202, 503}
        accepted += answers.get(202, 0)
        if 202 not in answers:
            return accepted
    raise AssertionError("the disk never fills")


async def counted_pushes(github: GitHub, process: Process, count: int) -> Figures:
    """Wait until so many pushes are counted; return the figures."""

    async def done() -> Figures | None:
        counted = await github.figures(process)
        return counted if figures.total(counted, "promgithub_push_total") >= count else None

    return await until(done, DRAIN_SECONDS)


async def is_not_ready(process: Process, within: float) -> None:
    async def red() -> bool | None:
        return None if await process.is_ready() else True

    await until(red, within)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Let nobody else write to a SQLite file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# --- A full disk ---


async def test_a_spool_that_has_filled_its_disk_is_forwarded_and_each_delivery_once(
    receiver: Process,
    broker: Mapping[str, str],
    database_url: str,
    private_rabbit: RabbitServer,
    github: GitHub,
    launcher: Launcher,
) -> None:
    await private_rabbit.kill()
    accepted = await accepted_until_full(github, receiver)
    await is_not_ready(receiver, within=10)
    await private_rabbit.start()

    async def drained() -> Figures | None:
        counted = await github.figures(receiver)
        return counted if figures.value(counted, "promgithub_spool_deliveries") == 0 else None

    counted = await until(drained, DRAIN_SECONDS)
    assert figures.value(counted, "promgithub_spool_forwarded_total") == accepted
    processor = launcher.start("processor", DATABASE_URL=database_url, **broker)
    await processor.ready()
    counted = await counted_pushes(github, processor, accepted)
    assert figures.total(counted, "promgithub_push_total") == accepted
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == 0
    await receiver.ready()


async def test_a_standalone_that_has_filled_its_disk_counts_what_it_accepted_and_then_accepts_again(
    start_standalone: Start, github: GitHub, disk: Disk
) -> None:
    standalone = start_standalone()
    await standalone.ready()
    with locked(disk.directory / "data" / "promgithub.db"):
        accepted = await accepted_until_full(github, standalone)
    counted = await counted_pushes(github, standalone, accepted)
    assert figures.total(counted, "promgithub_push_total") == accepted
    assert figures.total(counted, "promgithub_duplicate_deliveries_dropped_total") == 0
    await standalone.ready()
    await github.deliver_all(standalone, bulky(3))  # with retries, as the room is just enough at first
    await counted_pushes(github, standalone, accepted + 3)


# --- A disk that fails ---


async def test_a_disk_that_becomes_read_only_refuses_and_a_restart_after_its_repair_counts_what_was_accepted(
    launcher: Launcher, github: GitHub, tmp_path: Path
) -> None:
    truth = Historian(61).history(420)
    half = len(truth.deliveries) // 2
    image, directory = tmp_path / "image", tmp_path / "disk"
    make_image(image, DISK_BYTES)
    with image_disk(directory, image) as disk:
        standalone = launcher.start("standalone", "--data-dir", str(directory / "data"), WEBHOOK_SECRET=SECRET)
        await standalone.ready()
        sending = asyncio.create_task(github.deliver_all(standalone, truth.deliveries[:half]))
        await github.drained(standalone, processed=half // 3)
        disk.fail()
        await is_not_ready(standalone, within=10)
        assert set(await github.send_all(standalone, truth.deliveries[half : half + 20])) == {503}
        assert standalone.running
        sending.cancel()
        await standalone.kill()
    with image_disk(directory, image):
        standalone.start()
        await standalone.ready()
        await github.deliver_all(standalone, truth.deliveries)
        await github.settled(truth, standalone)
        await standalone.kill()


async def test_a_spool_whose_disk_becomes_read_only_keeps_what_it_accepted_and_leaves_the_rest_to_rabbitmq(
    private_rabbit: RabbitServer,
    broker: Mapping[str, str],
    database_url: str,
    launcher: Launcher,
    github: GitHub,
    tmp_path: Path,
) -> None:
    truth = Historian(65).history(280)
    spooled, refused = truth.deliveries[:140], truth.deliveries[140:]
    image, directory = tmp_path / "image", tmp_path / "disk"
    make_image(image, DISK_BYTES)
    with image_disk(directory, image) as disk:
        receiver = launcher.start("ingest", WEBHOOK_SECRET=SECRET, SPOOL_DIR=str(directory / "spool"), **broker)
        await receiver.ready()
        await asyncio.sleep(QUEUE_SETTLED_SECONDS)
        await private_rabbit.kill()
        assert await github.send_all(receiver, spooled) == {202: len(spooled)}
        disk.fail()
        await is_not_ready(receiver, within=10)
        assert await github.send_all(receiver, refused) == {503: len(refused)}
        await private_rabbit.start()
        await receiver.ready()
        await github.deliver_all(receiver, refused)
        await receiver.kill()
    with image_disk(directory, image):
        receiver.start()
        processor = launcher.start("processor", DATABASE_URL=database_url, **broker)
        await processor.ready()
        await github.settled(truth, processor)
        await receiver.kill()


# --- kill -9 during a checkpoint of SQLite's log ---


@pytest.mark.parametrize("name", ["spool/deliveries.db", "promgithub.db"])
@pytest.mark.drill
async def test_kill_9_during_a_checkpoint_loses_no_accepted_delivery_and_counts_none_twice(
    launcher: Launcher, github: GitHub, tmp_path: Path, name: str
) -> None:
    standalone = launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET)
    await standalone.ready()
    truth = Historian(62).history(700)
    rest, inside = list(truth.deliveries), 0
    for _ in range(2):
        batch, rest = rest[:300], rest[300:]
        sending = asyncio.create_task(github.deliver_all(standalone, batch))
        inside += await asyncio.to_thread(killed_during_a_checkpoint, standalone.pid, tmp_path / "data" / name)
        await standalone.kill()
        standalone.start()
        await standalone.ready()
        await sending
    assert inside, "no kill came during a checkpoint"
    await github.deliver_all(standalone, rest)
    counted = await github.settled(truth, standalone)
    assert figures.total(counted, "promgithub_dead_letters") == 0


def killed_during_a_checkpoint(pid: int, database: Path) -> bool:
    """Kill a process as soon as it writes to the database itself; return whether a checkpoint was incomplete."""
    before = database.stat().st_mtime_ns
    give_up = time.monotonic() + KILL_SECONDS
    while database.stat().st_mtime_ns == before and time.monotonic() < give_up:
        time.sleep(0.0001)
    os.kill(pid, signal.SIGKILL)
    # https://sqlite.org/walformat.html, "WAL-Index": nBackfill at offset 96, nBackfillAttempted at offset 128.
    index = database.with_name(f"{database.name}-shm").read_bytes()
    (done,), (attempted,) = struct.unpack_from("=I", index, 96), struct.unpack_from("=I", index, 128)
    return bool(attempted > done)


# --- Files that are removed or replaced ---


@pytest.mark.parametrize("name", ["spool/deliveries.db", "spool/lock", "promgithub.db", ""])
async def test_standalone_accepts_nothing_once_a_file_was_removed_and_loses_nothing_if_it_is_put_back(
    start_standalone: Start, github: GitHub, disk: Disk, name: str
) -> None:
    path, kept = disk.directory / "data" / name, disk.directory / "kept"
    standalone = start_standalone()
    await standalone.ready()
    truth = Historian(63).history(280)
    half = len(truth.deliveries) // 2
    assert await github.send_all(standalone, truth.deliveries[:half]) == {202: half}
    path.rename(kept)
    await is_not_ready(standalone, within=10)
    assert set(await github.send_all(standalone, truth.deliveries[half : half + 20])) == {503}
    assert "was removed while promgithub was using it" in standalone.log
    kept.rename(path)
    await standalone.ready()
    await github.deliver_all(standalone, truth.deliveries[half:])
    await github.settled(truth, standalone)


async def test_a_store_that_was_replaced_gets_no_counts_and_a_restart_with_the_right_one_has_all_of_them(
    start_standalone: Start, github: GitHub, disk: Disk
) -> None:
    store, kept = disk.directory / "data" / "promgithub.db", disk.directory / "kept"
    standalone = start_standalone()
    await standalone.ready()
    truth = Historian(64).history(280)
    sending = asyncio.create_task(github.deliver_all(standalone, truth.deliveries))
    await github.drained(standalone, processed=20)
    store.rename(kept)
    shutil.copy(kept, store)
    await is_not_ready(standalone, within=10)
    await standalone.kill()
    kept.rename(store)
    standalone.start()
    await standalone.ready()
    await sending
    await github.settled(truth, standalone)
