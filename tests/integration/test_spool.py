"""The spool on disk: what it confirmed survives, what is damaged is set aside, what is full says so."""

import asyncio
import os
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.broker import Batch
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull, SettingsError
from shared.spool import SpoolBroker
from tests import builders

PUBLISHER = """
import asyncio, sys, uuid
from pathlib import Path
from shared.delivery import Delivery
from shared.spool import SpoolBroker

async def main():
    spool = SpoolBroker(Path(sys.argv[1]), 10**6, 20)
    await spool.start()
    async def publish():
        while True:
            delivery = Delivery(str(uuid.uuid4()), "push", b"x" * 5000, 1)
            await spool.publish(delivery)
            print(delivery.id, flush=True)
    await asyncio.gather(*(publish() for _ in range(16)))

asyncio.run(main())
"""

CONSUMER = """
import asyncio, sys
from pathlib import Path
from shared.spool import SpoolBroker

async def main():
    spool = SpoolBroker(Path(sys.argv[1]), 10**6, 2)
    await spool.start()
    async for batch in (await spool.consume(100)).batches(10, 0):
        print(len(batch.deliveries), flush=True)
        if any(delivery.event == "crash" for delivery in batch.deliveries):
            sys.stdout.flush()
            import os
            os._exit(1)
        await batch.ack()

asyncio.run(main())
"""


@asynccontextmanager
async def opened(directory: Path, size: int = 1000, limit: int = 20, **bounds: int) -> AsyncIterator[SpoolBroker]:
    spool = SpoolBroker(directory, size, limit, **bounds)
    await spool.start()
    try:
        yield spool
    finally:
        await spool.close()


async def everything(spool: SpoolBroker) -> list[Delivery]:
    """Take and ack all that is there."""
    taken: list[Delivery] = []
    consumer = await spool.consume(1000)
    batches = consumer.batches(100, 0)
    while len(taken) < spool.deliveries + len(taken):
        batch: Batch = await anext(batches)
        taken += batch.deliveries
        await batch.ack()
    return taken


async def published_until_refused(spool: SpoolBroker) -> int:
    """Publish until the spool cannot be written; return how many were confirmed."""
    for confirmed in range(100):
        try:
            await spool.publish(push(50_000))
        except BrokerUnavailable:
            return confirmed
    raise AssertionError("nothing stops it")


def push(size: int = 10) -> Delivery:
    return Delivery(builders.guid(random.random() * 1e6), "push", b"x" * size, 1)  # noqa: S311


@pytest.mark.parametrize("seed", range(5))
async def test_kill_9_loses_nothing_that_was_confirmed(tmp_path: Path, seed: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUBLISHER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    confirmed = {(await process.stdout.readline()).decode().strip()}
    await asyncio.sleep(random.Random(seed).uniform(0.05, 0.4))  # noqa: S311
    process.send_signal(signal.SIGKILL)
    confirmed |= {line.decode().strip() for line in (await process.stdout.read()).split(b"\n") if len(line) == 36}
    await process.wait()
    async with opened(tmp_path, size=10**6) as spool:
        there = {delivery.id for delivery in await everything(spool)}
    assert confirmed - {""} <= there
    assert len(confirmed) > 1


async def test_a_delivery_that_crashes_its_consumer_ends_as_a_dead_letter_and_takes_none_along(tmp_path: Path) -> None:
    crash = Delivery(builders.guid(1), "crash", b"{}", 1)
    async with opened(tmp_path) as spool:
        for one in [push(), push(), crash, push(), push()]:
            await spool.publish(one)
    crashes = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONSUMER, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:  # it survived: nothing crashes it any more
            process.kill()
            await process.wait()
            break
        crashes += 1
    assert crashes == 3  # together with the others, then alone as often as the limit allows
    async with opened(tmp_path) as spool:
        depths = await spool.depths()
        assert (depths.ready, depths.dead_letters) == (0, 1)


async def test_deliveries_keep_their_order_over_a_restart(tmp_path: Path) -> None:
    published = [push() for _ in range(250)]
    for part in (published[:100], published[100:]):
        async with opened(tmp_path) as spool:
            for one in part:
                await spool.publish(one)
    async with opened(tmp_path) as spool:
        assert (spool.deliveries, spool.bytes) == (250, 2500)
        assert await everything(spool) == published
        assert (spool.deliveries, spool.bytes) == (0, 0)


async def test_concurrent_publishes_share_commits(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        before = spool.commits
        await asyncio.gather(*(spool.publish(push()) for _ in range(500)))
        assert spool.commits - before < 20


async def test_a_full_spool_refuses_by_number_and_by_bytes_until_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "number", size=3) as spool:
        for _ in range(3):
            await spool.publish(push())
        with pytest.raises(QueueFull):
            await spool.publish(push())
        await everything(spool)
        await spool.publish(push())
    async with opened(tmp_path / "bytes", max_bytes=1000) as spool:
        await spool.publish(push(900))
        with pytest.raises(QueueFull):
            await spool.publish(push(101))
        await spool.publish(push(100))


async def test_a_drained_backlog_gives_its_space_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for _ in range(100):
            await spool.publish(push(100_000))
        await everything(spool)
    assert (tmp_path / "deliveries.db").stat().st_size < 1_000_000


@pytest.mark.parametrize("damage", [b"this is not a database" * 1000, None])
async def test_a_damaged_file_is_set_aside_with_a_loud_error(tmp_path: Path, damage: bytes | None) -> None:
    file = tmp_path / "deliveries.db"
    async with opened(tmp_path) as spool:
        for _ in range(200):
            await spool.publish(push(3000))
    content = file.read_bytes()
    spoilt = damage if damage is not None else content[:4096] + b"\xaa" * 40_000 + content[44_096:]
    file.write_bytes(spoilt)
    with capture_logs() as logs:
        async with opened(tmp_path) as spool:
            assert spool.deliveries == 0
            await spool.publish(push())
    assert [line["log_level"] for line in logs] == ["error"]
    (aside,) = (name for name in os.listdir(tmp_path) if ".db.damaged-" in name)
    assert (tmp_path / aside).read_bytes()[4096:] == spoilt[4096:]


async def test_a_second_process_on_the_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SettingsError, match="another promgithub uses it"):
            await SpoolBroker(tmp_path, 10, 20).start()
    async with opened(tmp_path):
        pass


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"{tmp_path}/file: cannot be used"):
        await SpoolBroker(tmp_path / "file", 10, 20).start()


async def test_a_full_disk_refuses_and_recovers_without_losing_what_was_confirmed(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        async with opened(tmp_path) as spool:
            await spool.publish(push(50_000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
            confirmed = 1 + await published_until_refused(spool)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await spool.publish(push(50_000))
            assert spool.deliveries == confirmed + 1
        async with opened(tmp_path) as spool:
            assert len(await everything(spool)) == confirmed + 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
