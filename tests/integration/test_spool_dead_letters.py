"""Dead letters of a spool, visited beside the process that has it, or without one."""

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from shared.brokers.interface import Batch, DeadLetter
from shared.brokers.spool import SpoolBroker, spool_dead_letters
from shared.delivery import Delivery
from shared.errors import BrokerUnavailable, QueueFull, SettingsError
from shared.settings import SPOOL_MAX_BYTES

SOON = 10.0
KIB = 1024


@asynccontextmanager
async def opened(directory: Path, size: int = 1000, max_bytes: int = SPOOL_MAX_BYTES) -> AsyncIterator[SpoolBroker]:
    spool = SpoolBroker(directory, size, 20, max_bytes)
    await spool.start()
    try:
        yield spool
    finally:
        await spool.close()


def push(size: int = 10) -> Delivery:
    return Delivery(str(uuid.uuid4()), "push", os.urandom(size), 1_761_000_000_000)


async def next_batch(batches: AsyncIterator[Batch]) -> Batch:
    async with asyncio.timeout(SOON):
        return await anext(batches)


async def bury(spool: SpoolBroker, *deliveries: Delivery) -> None:
    """Publish deliveries and refuse each of them."""
    consumer = await spool.consume(1)
    batches = consumer.batches(1, 0)
    for delivery in deliveries:
        await spool.publish(delivery)
        batch = await next_batch(batches)
        await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
        await batch.ack()
    await consumer.stop()


async def look(directory: Path) -> list[DeadLetter]:
    async with spool_dead_letters(directory, 1000, SPOOL_MAX_BYTES) as dead_letters:
        return [letter async for letter in dead_letters.letters()]


async def replay_all(directory: Path, size: int = 1000, max_bytes: int = SPOOL_MAX_BYTES) -> None:
    async with spool_dead_letters(directory, size, max_bytes) as dead_letters:
        async for letter in dead_letters.letters():
            assert await dead_letters.replay(letter)


async def test_letters_of_a_spool_that_nobody_has_are_replayed_for_the_process_that_comes_next(tmp_path: Path) -> None:
    dead = push()
    async with opened(tmp_path) as spool:
        await bury(spool, dead)

    await replay_all(tmp_path)

    async with opened(tmp_path) as spool:
        batch = await next_batch((await spool.consume(1)).batches(1, 0))
        assert batch.deliveries == [dead]
        assert (spool.deliveries, spool.bytes, (await spool.depths()).dead_letters) == (1, 10, 0)


async def test_what_another_process_does_is_counted_within_two_seconds_also_beside_what_is_in_work(
    tmp_path: Path,
) -> None:
    held, waits, *dead = (push() for _ in range(5))
    async with opened(tmp_path) as spool:
        await bury(spool, *dead)
        await spool.publish(held)
        await spool.publish(waits)
        batches = (await spool.consume(10)).batches(1, 0)
        batch = await next_batch(batches)

        began = time.monotonic()
        await replay_all(tmp_path)
        async with asyncio.timeout(SOON):
            while spool.deliveries != 5:  # noqa: ASYNC110 - the interface has no event for it
                await asyncio.sleep(0.05)
        assert time.monotonic() - began < 2

        depths = await spool.depths()
        assert (depths.ready, depths.dead_letters, spool.bytes) == (4, 0, 50)
        taken = [*batch.deliveries]
        await batch.ack()
        for _ in range(4):
            batch = await next_batch(batches)
            taken += batch.deliveries
            await batch.ack()
        assert taken == [held, waits, *dead]
        assert (spool.deliveries, spool.bytes, spool.waiting) == (0, 0, 0)


async def test_dead_letters_that_another_process_dropped_leave_their_room_to_others(tmp_path: Path) -> None:
    async with opened(tmp_path, size=3) as spool:
        await bury(spool, push(), push(), push())
        await spool.publish(push())
        batch = await next_batch((await spool.consume(1)).batches(1, 0))
        with pytest.raises(QueueFull):
            await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")

        async with spool_dead_letters(tmp_path, 3, SPOOL_MAX_BYTES) as dead_letters:
            async for letter in dead_letters.letters():
                assert await dead_letters.drop(letter)
        async with asyncio.timeout(SOON):
            while (await spool.depths()).dead_letters:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

        await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")


async def test_a_letter_that_is_replayed_before_its_delivery_was_acked_is_not_lost(tmp_path: Path) -> None:
    dead = push()
    async with opened(tmp_path) as spool:
        await spool.publish(dead)
        batches = (await spool.consume(2)).batches(1, 0)
        batch = await next_batch(batches)
        await batch.dead_letter(batch.deliveries[0], "undecodable", "not JSON")
        await replay_all(tmp_path)
        await batch.ack()

        again = await next_batch(batches)
        await again.dead_letter(again.deliveries[0], "undecodable", "not JSON")
        await again.ack()

    assert [letter.delivery for letter in await look(tmp_path)] == [dead]


async def test_a_replay_is_refused_by_the_bytes_of_a_full_spool_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await bury(spool, push(6 * KIB))
        await spool.publish(push(5 * KIB))

    with pytest.raises(QueueFull):
        await replay_all(tmp_path, max_bytes=10 * KIB)

    assert len(await look(tmp_path)) == 1
    await replay_all(tmp_path, max_bytes=11 * KIB)


async def test_a_letter_that_somebody_else_removed_meanwhile_is_not_replayed(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await bury(spool, push())
        async with spool_dead_letters(tmp_path, 1000, SPOOL_MAX_BYTES) as dead_letters:
            letter = await anext(dead_letters.letters())
            await replay_all(tmp_path)
            assert not await dead_letters.replay(letter)
            assert not await dead_letters.drop(letter)
        await next_batch((await spool.consume(2)).batches(1, 0))
        assert spool.waiting == 0


async def test_a_visit_makes_no_spool_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path}: there is no spool"):
        await look(tmp_path)
    assert not os.listdir(tmp_path)


async def test_a_file_that_is_no_spool_is_an_error_that_names_the_directory(tmp_path: Path) -> None:
    (tmp_path / "deliveries.db").write_bytes(os.urandom(8 * KIB))
    with pytest.raises(BrokerUnavailable, match=f"{tmp_path}: the spool cannot be used"):
        await look(tmp_path)


@pytest.mark.parametrize("begun_anew", [False, True])
async def test_a_replay_into_a_spool_that_was_set_aside_is_refused(tmp_path: Path, begun_anew: bool) -> None:
    async with opened(tmp_path) as spool:
        await bury(spool, push())
    async with spool_dead_letters(tmp_path, 1000, SPOOL_MAX_BYTES) as dead_letters:
        letter = await anext(dead_letters.letters())
        (tmp_path / "deliveries.db").rename(tmp_path / "deliveries.db.damaged")
        if begun_anew:
            async with opened(tmp_path):
                pass
        with pytest.raises(BrokerUnavailable, match="set aside"):
            await dead_letters.replay(letter)


async def test_a_replay_waits_for_a_process_that_is_writing(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await bury(spool, push())
    with closing(sqlite3.connect(tmp_path / "deliveries.db", isolation_level=None)) as elsewhere:
        elsewhere.execute("BEGIN IMMEDIATE")
        replaying = asyncio.create_task(replay_all(tmp_path))
        await asyncio.sleep(0.5)
        assert not replaying.done()
        elsewhere.execute("COMMIT")
        await asyncio.wait_for(replaying, SOON)
    assert await look(tmp_path) == []
