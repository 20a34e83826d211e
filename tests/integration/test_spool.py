"""The spool on disk: confirmed deliveries survive, damaged files are set aside, a full spool refuses deliveries."""

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.brokers.interface import Batch, Consumer
from shared.brokers.spool import SpoolBroker, spool_dead_letters, spool_publisher
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull, SettingsError
from shared.settings import SPOOL_MAX_BYTES
from tests.support.disks import MIB, Disk, memory_disk

SOON = 10.0
A_MOMENT = 0.2

PUBLISHER = """
import asyncio, sys, uuid
from pathlib import Path
from shared.delivery import Delivery
from shared.brokers.spool import SpoolBroker

async def main():
    spool = SpoolBroker(Path(sys.argv[1]), 10**6, 20, 10**9)
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
import asyncio, os, sys
from pathlib import Path
from shared.brokers.spool import SpoolBroker

async def main():
    spool = SpoolBroker(Path(sys.argv[1]), 10**6, 2, 10**9)
    await spool.start()
    async for batch in (await spool.consume(100)).batches(10, 0):
        ids = " ".join(delivery.id for delivery in batch.deliveries)
        print("got", ids, flush=True)
        if any(delivery.event == "crash" for delivery in batch.deliveries):
            os._exit(1)
        await batch.ack()
        print("acked", ids, flush=True)
        if not spool.deliveries:
            break

asyncio.run(main())
"""


@asynccontextmanager
async def opened(
    directory: Path, size: int = 1000, limit: int = 20, max_bytes: int = SPOOL_MAX_BYTES
) -> AsyncIterator[SpoolBroker]:
    spool = SpoolBroker(directory, size, limit, max_bytes)
    await spool.start()
    try:
        yield spool
    finally:
        await spool.close()


async def everything(spool: SpoolBroker) -> list[Delivery]:
    """Take and ack all that is there."""
    taken: list[Delivery] = []
    consumer = await spool.consume(1000)
    await consumer.stop()
    async with asyncio.timeout(60):
        while spool.deliveries:
            consumer = await spool.consume(1000)
            await consumer.stop()
            async for batch in consumer.batches(100, 0):
                taken += batch.deliveries
                await batch.ack()
    return taken


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(SOON):
        return await anext(batches)


async def held(spool: SpoolBroker, size: int) -> Batch:
    """Take a batch of at most so many that is not acked."""
    return await next_batch((await spool.consume(size)).batches(size, 0))


def push(size: int = 10, event: str = "push") -> Delivery:
    return Delivery(str(uuid.uuid4()), event, os.urandom(size), 1_761_000_000_000)


def dead_letters(directory: Path) -> list[tuple[str, str, str]]:
    """Return the ID, reason and detail of each dead letter in the file of a spool that is closed."""
    with closing(sqlite3.connect(directory / "deliveries.db")) as connection:
        return connection.execute("SELECT id, reason, detail FROM dead_letters ORDER BY letter").fetchall()


def set_aside(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if ".damaged-" in path.name)


# --- Crashes ---


@pytest.mark.parametrize("seed", range(5))
async def test_kill_9_loses_nothing_that_was_confirmed(tmp_path: Path, seed: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUBLISHER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    first = await process.stdout.readline()
    await asyncio.sleep(random.Random(seed).uniform(0.05, 0.4))  # noqa: S311
    process.send_signal(signal.SIGKILL)
    output = first + await process.stdout.read()
    await process.wait()
    confirmed = {line.decode() for line in output.split(b"\n") if len(line) == 36}
    async with opened(tmp_path, size=10**6) as spool:
        there = {delivery.id for delivery in await everything(spool)}
    assert len(confirmed) > 1
    assert confirmed <= there


async def test_a_delivery_that_crashes_its_consumer_ends_as_a_dead_letter_and_takes_none_along(tmp_path: Path) -> None:
    crasher = push(event="crash")
    published = [push(), push(), crasher, push(), push()]
    async with opened(tmp_path) as spool:
        for one in published:
            await spool.publish(one)

    runs = [await consumed(tmp_path)]
    while crasher.id in runs[-1].got[-1]:
        runs.append(await consumed(tmp_path))

    with_it = [batch for run in runs for batch in run.got if crasher.id in batch]
    assert with_it == [[one.id for one in published], [crasher.id], [crasher.id]]  # alone as often as the limit says
    acked = [one for run in runs for batch in run.acked for one in batch]
    assert sorted(acked) == sorted(one.id for one in published if one is not crasher)
    assert [(letter, reason) for letter, reason, _ in dead_letters(tmp_path)] == [(crasher.id, "delivery_limit")]


@dataclass(frozen=True)
class Run:
    """The batches that a consumer got and acked before it crashed or the spool was empty."""

    got: list[list[str]]
    acked: list[list[str]]


async def consumed(directory: Path) -> Run:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CONSUMER, str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[list[str]] = []
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            lines.append(line.decode().split())
        await process.wait()
    return Run([ids for kind, *ids in lines if kind == "got"], [ids for kind, *ids in lines if kind == "acked"])


async def test_what_a_cancelled_publish_has_written_is_handed_out(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        publishing = asyncio.create_task(spool.publish(push()))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait({publishing})
        await spool.publish(push())
        assert ((await spool.depths()).ready, len(await everything(spool))) == (2, 2)


async def test_what_was_handed_out_to_a_cancelled_consumer_is_handed_out_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.publish(push())
        taking = asyncio.create_task(spool.take(1))
        await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait({taking})
        assert len((await held(spool, 1)).deliveries) == 1


async def test_a_delivery_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    unstorable = replace(push(), hook_id="\udcff")
    async with opened(tmp_path) as spool:
        outcomes = await asyncio.gather(
            *(spool.publish(one) for one in (push(), unstorable, push())), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), UnicodeEncodeError, type(None)]
        assert (spool.deliveries, spool.available, len(await everything(spool))) == (2, True, 2)


# --- Order, batches and commits ---


async def test_deliveries_keep_their_order_over_a_restart_and_a_clock_that_steps_back(tmp_path: Path) -> None:
    published = [replace(push(), received_at=1000 - number) for number in range(250)]
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


async def test_the_prefetch_bounds_what_is_held_over_several_batches(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for _ in range(5):
            await spool.publish(push())
        batches = (await spool.consume(3)).batches(2, 0)
        first, second = await next_batch(batches), await next_batch(batches)
        third = asyncio.create_task(next_batch(batches))
        await asyncio.sleep(A_MOMENT)
        assert (len(first.deliveries), len(second.deliveries), third.done()) == (2, 1, False)
        await first.ack()
        assert len((await third).deliveries) == 2


async def test_acking_twice_is_acking_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.publish(push()) for _ in range(5)))
        batches = (await spool.consume(2)).batches(2, 0)
        batch = await next_batch(batches)
        await batch.ack()
        await batch.ack()
        await next_batch(batches)
        beyond_the_prefetch = asyncio.create_task(next_batch(batches))
        await asyncio.sleep(A_MOMENT)
        assert (spool.deliveries, spool.bytes, beyond_the_prefetch.done()) == (3, 30, False)
        beyond_the_prefetch.cancel()


async def test_the_largest_delivery_that_github_sends_fits(tmp_path: Path) -> None:
    largest = push(25 * MIB)
    async with opened(tmp_path) as spool:
        await spool.publish(largest)
        assert await everything(spool) == [largest]


# --- Bounds ---


async def test_a_full_spool_refuses_by_number_and_by_bytes_until_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "number", size=3) as spool:
        outcomes = await asyncio.gather(*(spool.publish(push()) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [QueueFull] * 2
        await everything(spool)
        await spool.publish(push())
    async with opened(tmp_path / "bytes", max_bytes=1000) as spool:
        await spool.publish(push(900))
        with pytest.raises(QueueFull):
            await spool.publish(push(101))
        await spool.publish(push(100))


@pytest.mark.parametrize("bounds", [(2, 10**6), (1000, 25)], ids=["by number", "by bytes"])
async def test_dead_letters_are_bounded(tmp_path: Path, bounds: tuple[int, int]) -> None:
    size, max_bytes = bounds
    async with opened(tmp_path, size=size, max_bytes=max_bytes) as spool:
        for _ in range(2):
            await spool.publish(push())
            batch = await held(spool, 1)
            await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
            await batch.ack()
        await spool.publish(push())
        batch = await held(spool, 1)
        with pytest.raises(QueueFull):
            await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
        assert (await spool.depths()).dead_letters == 2


async def test_a_crasher_that_finds_no_room_among_the_dead_letters_is_kept_and_not_handed_out(tmp_path: Path) -> None:
    async with opened(tmp_path, size=1) as spool:
        await spool.publish(push())
        batch = await held(spool, 1)
        await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
        await batch.ack()
        await spool.publish(push())
        await held(spool, 1)
    async with opened(tmp_path, size=2, limit=0, max_bytes=10) as spool:
        with capture_logs() as logs:
            taken = await spool.take(1)
        assert (list(taken.entries), spool.deliveries, [line["log_level"] for line in logs]) == ([], 1, ["error"])
    async with opened(tmp_path, limit=0) as spool:
        await spool.take(1)
        assert ((await spool.depths()).ready, (await spool.depths()).dead_letters) == (0, 2)


async def test_a_drained_backlog_gives_its_space_back(tmp_path: Path) -> None:
    file = tmp_path / "deliveries.db"
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.publish(push(100_000)) for _ in range(600)))
        await everything(spool)
        async with asyncio.timeout(SOON):
            while file.stat().st_size > 20 * MIB:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_space_is_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for _ in range(50):
            await asyncio.gather(*(spool.publish(push(20_000)) for _ in range(20)))
            await everything(spool)
    assert (tmp_path / "deliveries.db").stat().st_size < 2 * MIB


# --- Damage ---


@pytest.mark.parametrize(
    ("damage", "saved"),
    [("a text", range(1)), ("emptied", range(1)), ("truncated", range(80, 120)), ("overwritten", range(180, 200))],
)
async def test_a_damaged_file_is_set_aside_with_a_loud_error_and_what_can_be_read_is_kept(
    tmp_path: Path, damage: str, saved: range
) -> None:
    file = tmp_path / "deliveries.db"
    published = [push(3000) for _ in range(200)]
    async with opened(tmp_path) as spool:
        for one in published:
            await spool.publish(one)
    content = file.read_bytes()
    spoilt = {
        "a text": b"this is not a database\n" * 1000,
        "overwritten": content[:300_000] + b"\xaa" * 40_000 + content[340_000:],
        "truncated": content[: len(content) // 2],
        "emptied": b"",
    }[damage]
    file.write_bytes(spoilt)

    with capture_logs() as logs:
        async with opened(tmp_path) as spool:
            assert spool.deliveries in saved
            await spool.publish(push())

    assert [line["log_level"] for line in logs] == ["error"]
    assert logs[0]["file"] == str(set_aside(tmp_path)[0])
    # SQLite may have noted in the header that the file is open.
    assert set_aside(tmp_path)[0].read_bytes()[4096:] == spoilt[4096:]
    async with opened(tmp_path) as spool:
        *kept, _ = await everything(spool)
    assert len(kept) in saved
    assert kept == [one for one in published if one in kept]


@pytest.mark.parametrize("when", ["at rest", "in use"])
async def test_a_payload_that_changed_on_the_disk_becomes_a_dead_letter_and_costs_no_other(
    tmp_path: Path, when: str
) -> None:
    published = [push(20_000) for _ in range(10)]
    with capture_logs() as logs:
        async with opened(tmp_path) as spool:
            for one in published:
                await spool.publish(one)
            if when == "in use":
                flip(tmp_path, published[4].body)
                assert await everything(spool) == [*published[:4], *published[5:]]
        if when == "at rest":
            flip(tmp_path, published[4].body)
            async with opened(tmp_path) as spool:
                assert await everything(spool) == [*published[:4], *published[5:]]
    assert [(letter, reason) for letter, reason, _ in dead_letters(tmp_path)] == [(published[4].id, "damaged")]
    errors = [line for line in logs if line["log_level"] == "error"]
    assert [(line["delivery_id"], line["reason"]) for line in errors] == [(published[4].id, "damaged")]


def flip(directory: Path, body: bytes) -> None:
    """Change a byte of a stored payload, wherever it is on the disk."""
    with closing(sqlite3.connect(directory / "deliveries.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = directory / "deliveries.db"
    part = body[10_000:10_200]  # within one page
    for start in (part, part[:100], part[100:]):
        if (place := path.read_bytes().find(start)) >= 0:
            with path.open("r+b") as file:
                file.seek(place + 50)
                file.write(bytes([start[50] ^ 0xFF]))
            return
    raise AssertionError("the payload is not in the file")


async def test_a_damaged_letter_that_is_replayed_is_found_damaged_again(tmp_path: Path) -> None:
    one = push(20_000)
    async with opened(tmp_path) as spool:
        await spool.publish(one)
    flip(tmp_path, one.body)
    async with opened(tmp_path) as spool:
        assert not (await spool.take(1)).entries
        async with spool_dead_letters(tmp_path, 10, SPOOL_MAX_BYTES) as letters:
            assert await letters.replay(await anext(letters.letters()))
        async with asyncio.timeout(SOON):
            while not spool.deliveries:  # noqa: ASYNC110 - another connection has written it
                await asyncio.sleep(0.05)
        assert not (await spool.take(1)).entries
        assert (spool.deliveries, spool.dead_letters) == (0, 1)


async def test_a_log_without_its_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "deliveries.db-wal").write_bytes(b"what was confirmed last")
    async with opened(tmp_path) as spool:
        await spool.publish(push())
    assert [path.read_bytes() for path in set_aside(tmp_path)] == [b"what was confirmed last"]


async def test_a_file_that_is_damaged_while_it_is_used_is_set_aside_and_work_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "deliveries.db"
    async with opened(tmp_path, size=10_000) as spool:
        await asyncio.gather(*(spool.publish(push(10_000)) for _ in range(4000)))
        old = await held(spool, 2)
        with file.open("r+b") as opened_file:
            opened_file.seek(8192)
            opened_file.write(b"\xaa" * (file.stat().st_size - 8192))
        with capture_logs() as logs:
            consumer = await spool.consume(5000)
            consuming = asyncio.create_task(acked_until(consumer, b"new"))
            async with asyncio.timeout(30):
                while not set_aside(tmp_path):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await spool.ready_within(SOON)
                await spool.publish(replace(push(), body=b"new"))
                await consuming
        assert "error" in [line["log_level"] for line in logs]
        await spool.publish(push())
        await old.dead_letter(old.deliveries[0], "undecodable", "not JSON")
        await old.ack()  # in the new file others have these numbers
        depths = await spool.depths()
        assert (spool.deliveries, depths.ready, depths.dead_letters) == (1, 1, 1)


async def acked_until(consumer: Consumer, body: bytes) -> None:
    async for batch in consumer.batches(100, 0):
        await batch.ack()
        if batch.deliveries[-1].body == body:
            return


# --- One process at a time ---


async def test_a_second_process_on_the_directory_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUBLISHER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert first.stdout is not None
    await first.stdout.readline()

    with pytest.raises(
        SettingsError,
        match=rf"^{tmp_path}: another promgithub uses it \(process \d+ on .+\); takes a directory of its own$",
    ):
        await SpoolBroker(tmp_path, 10, 20, SPOOL_MAX_BYTES).start()

    first.kill()
    await first.stdout.read()
    await first.wait()
    async with opened(tmp_path):
        with pytest.raises(SettingsError, match="another promgithub uses it"):
            await SpoolBroker(tmp_path, 10, 20, SPOOL_MAX_BYTES).start()
    async with opened(tmp_path):
        pass


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"{tmp_path}/file: cannot be used"):
        await SpoolBroker(tmp_path / "file", 10, 20, SPOOL_MAX_BYTES).start()


# --- A disk that is full, or does not answer ---


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with memory_disk(tmp_path / "disk", 160 * MIB) as mounted:
        yield mounted


async def full(spool: SpoolBroker, disk: Disk) -> None:
    """Fill the disk until nothing fits, not even into the room that the spool had reserved."""
    disk.fill()
    async with asyncio.timeout(SOON):
        while spool.available:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    disk.fill()


async def published_until_refused(spool: SpoolBroker, size: int) -> int:
    """Publish until the disk is full; return how many were confirmed."""
    for confirmed in range(1000):
        try:
            await spool.publish(push(size))
        except BrokerUnavailable:
            return confirmed
    raise AssertionError("nothing stops it")


async def test_a_full_disk_refuses_and_recovers_without_losing_what_was_confirmed(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await spool.publish(push(50_000))
        disk.fill(room=20 * MIB)
        confirmed = 1 + await published_until_refused(spool, 50_000)
        assert (spool.available, spool.deliveries) == (False, confirmed)
        disk.clear()
        assert await spool.ready_within(SOON)
        await spool.publish(push(50_000))
    async with opened(disk.directory / "spool") as spool:
        assert len(await everything(spool)) == confirmed + 1


async def test_a_disk_that_others_fill_still_hands_out_and_deletes_and_accepts_once_there_is_room(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await asyncio.gather(*(spool.publish(push(50_000)) for _ in range(200)))
        disk.fill()
        assert len(await everything(spool)) == 200
        with pytest.raises(BrokerUnavailable):
            await spool.publish(push())
        disk.clear()
        assert await spool.ready_within(SOON)


async def test_an_ack_that_the_disk_refuses_is_retried_and_nothing_is_handed_out_twice(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await asyncio.gather(*(spool.publish(push(1000)) for _ in range(4)))
        batches = (await spool.consume(100)).batches(2, 0)
        batch = await next_batch(batches)
        await full(spool, disk)
        acking = asyncio.create_task(batch.ack())
        taking = asyncio.create_task(next_batch(batches))
        await asyncio.sleep(2)
        assert (acking.done(), taking.done(), spool.deliveries) == (False, False, 4)
        disk.clear()
        await acking
        assert not {one.id for one in batch.deliveries} & {one.id for one in (await taking).deliveries}
        assert spool.deliveries == 2


async def test_a_consumer_that_is_stopped_does_not_wait_for_room_to_ack(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await spool.publish(push(1000))
        consumer = await spool.consume(1)
        batch = await next_batch(consumer.batches(1, 0))
        await full(spool, disk)
        acking = asyncio.create_task(batch.ack())
        await asyncio.sleep(A_MOMENT)
        await consumer.stop()
        async with asyncio.timeout(SOON):
            await acking
        assert spool.deliveries == 1


async def test_a_spool_on_a_full_disk_opens_and_drains(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await asyncio.gather(*(spool.publish(push(50_000)) for _ in range(100)))
    disk.fill()
    async with opened(disk.directory / "spool") as spool:
        assert not spool.available
        assert len(await everything(spool)) == 100


async def test_a_command_adds_nothing_to_a_spool_whose_disk_is_full(disk: Disk) -> None:
    async with opened(disk.directory / "spool") as spool:
        await full(spool, disk)
        disk.clear()
        disk.fill(room=20 * MIB)
        async with spool_publisher(disk.directory / "spool", 10, SPOOL_MAX_BYTES) as publisher:
            with pytest.raises(BrokerUnavailable, match="the disk is full"):
                await publisher.publish(push())


# --- Files that are removed or replaced while they are in use ---


@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("name", ["deliveries.db", "deliveries.db-wal", "deliveries.db-shm", "lock"])
async def test_a_file_that_is_removed_or_replaced_ends_accepting_at_once_and_costs_no_accepted_delivery(
    tmp_path: Path, name: str, how: str
) -> None:
    directory = tmp_path / "spool"
    async with opened(directory) as spool:
        published = [push() for _ in range(5)]
        for one in published:
            await spool.publish(one)
        (directory / name).rename(tmp_path / "kept")
        if how == "replaced":
            (directory / name).write_bytes((tmp_path / "kept").read_bytes())
        with capture_logs() as logs, pytest.raises(BrokerUnavailable, match=f"{name} was {how}"):
            await spool.publish(push())
        assert not spool.available
        assert [(line["log_level"], f"{directory / name} was {how}" in line["reason"]) for line in logs] == [
            ("error", True)
        ]
        assert (await everything(spool))[:5] == published


async def test_a_removed_file_is_noticed_while_nothing_arrives_and_accepted_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "spool"
    async with opened(directory) as spool:
        await spool.publish(push())
        directory.rename(tmp_path / "elsewhere")
        async with asyncio.timeout(SOON):
            while spool.available:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        (tmp_path / "elsewhere").rename(directory)
        assert await spool.ready_within(SOON)
        await spool.publish(push())
    async with opened(directory) as spool:
        assert len(await everything(spool)) == 2


@pytest.mark.timeout(60)
async def test_a_file_that_is_held_up_does_not_block_the_loop(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        with held_up(tmp_path):
            publishing = asyncio.create_task(spool.publish(push()))
            longest = 0.0
            while not publishing.done():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)
            assert isinstance(publishing.exception(), BrokerUnavailable)
            assert longest < 1
        assert await spool.ready_within(SOON)
        await spool.publish(push())


@pytest.mark.timeout(60)
async def test_a_consumer_gets_what_is_handed_out_later_than_a_publish_may_take(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.publish(push()) for _ in range(2)))
        with held_up(tmp_path):
            taking = asyncio.create_task(held(spool, 2))
            await asyncio.sleep(A_MOMENT)
            with pytest.raises(BrokerUnavailable):
                await spool.publish(push())
        assert len((await taking).deliveries) == 2
        assert (spool.deliveries, (await spool.depths()).ready) == (2, 0)


@pytest.mark.timeout(60)
async def test_closing_a_file_that_is_held_up_ends_within_seconds_and_confirms_nothing(tmp_path: Path) -> None:
    spool = SpoolBroker(tmp_path, 10, 20, SPOOL_MAX_BYTES)
    await spool.start()
    with held_up(tmp_path):
        publishing = asyncio.create_task(spool.publish(push()))
        await asyncio.sleep(A_MOMENT)
        async with asyncio.timeout(SOON / 2):
            await spool.close()
        assert isinstance(publishing.exception(), BrokerUnavailable)
    async with asyncio.timeout(SOON):
        while True:
            try:
                async with opened(tmp_path):
                    break
            except SettingsError:  # the thread still has it
                await asyncio.sleep(0.1)


async def test_a_publisher_beside_it_is_refused_when_the_queue_is_full(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.publish(push())
        async with spool_publisher(tmp_path, 2, SPOOL_MAX_BYTES) as publisher:
            await publisher.publish(push())
            with pytest.raises(QueueFull):
                await publisher.publish(push())


@contextmanager
def held_up(directory: Path) -> Iterator[None]:
    """Let nobody else write to the file."""
    with closing(sqlite3.connect(directory / "deliveries.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
