"""Exactly one processor exposes."""

import asyncio

from processor.store.lease import INTERVAL, MARGIN, NAME, TTL, Lease, acquire
from tests.support.worker import Worker

A_MOMENT = 2 * INTERVAL


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def held_within(lease: Lease, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while not lease.held:  # noqa: ASYNC110 - what holds the lease has no event for it
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def test_a_dead_holder_is_followed_although_the_clock_of_the_database_has_stepped_back(counting: Worker) -> None:
    async with counting.store.connection() as connection:
        assert await acquire(connection, NAME, "dead", 3_600_000)  # which is where a step back leaves it
    heir, clock, stop = counting.store, Clock(), asyncio.Event()
    lease = Lease(heir, "heir", clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lease.keep(stop))
        assert not await held_within(lease, A_MOMENT)
        clock.now += TTL - 1
        assert not await held_within(lease, A_MOMENT)
        clock.now += 2
        assert await held_within(lease, A_MOMENT)
        stop.set()


async def test_nobody_takes_over_from_a_holder_that_renews_its_lease(counting: Worker) -> None:
    clock, stop = Clock(), asyncio.Event()
    lease = Lease(counting.store, "waiting", clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lease.keep(stop))
        for _ in range(2):
            async with counting.store.connection() as connection:
                await acquire(connection, NAME, "alive", 3_600_000)
            clock.now += TTL - 1
            assert not await held_within(lease, A_MOMENT / 2)
        stop.set()


async def test_of_two_processors_one_holds_the_lease_and_the_other_follows_when_it_stops(counting: Worker) -> None:
    one, other = Lease(counting.store, "one"), Lease(counting.store, "other")
    stop_one, stop_other = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one.keep(stop_one))
        assert await held_within(one, A_MOMENT)
        tasks.create_task(other.keep(stop_other))
        assert not await held_within(other, A_MOMENT)
        assert await counting.store.snapshot(NAME, "one") is not None
        assert await counting.store.snapshot(NAME, "other") is None
        stop_one.set()
        assert await held_within(other, A_MOMENT)
        assert not one.held
        assert await counting.store.snapshot(NAME, "one") is None
        stop_other.set()


async def test_another_processor_takes_over_within_fifteen_seconds_after_a_crash(counting: Worker) -> None:
    gone, heir = Lease(counting.store, "gone"), Lease(counting.store, "heir")
    vanish, stop = asyncio.Event(), asyncio.Event()
    keeping = asyncio.create_task(gone.keep(vanish))
    assert await held_within(gone, A_MOMENT)
    keeping.cancel()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(heir.keep(stop))
        assert await held_within(heir, 15)
        assert await counting.store.snapshot(NAME, "heir") is not None
        stop.set()


async def test_a_holder_that_cannot_renew_stops_believing_before_another_may_take_over(counting: Worker) -> None:
    clock = Clock()
    lease = Lease(counting.store, "cut off", clock)
    stop = asyncio.Event()
    keeping = asyncio.create_task(lease.keep(stop))
    assert await held_within(lease, A_MOMENT)
    keeping.cancel()
    clock.now += TTL - MARGIN
    assert not lease.held
    assert await counting.store.snapshot(NAME, "cut off") is not None
