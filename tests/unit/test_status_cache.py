"""Answers are kept for some seconds, computed one at a time, and given at once while they are kept."""

import asyncio

from processor.status.cache import Cache


async def test_a_kept_answer_does_not_wait_for_another_one_that_is_computed() -> None:
    cache, finish = Cache(60), asyncio.Event()

    async def at_once() -> str:
        return "kept"

    async def slowly() -> str:
        await finish.wait()
        return "slow"

    await cache.get("kept", at_once)
    computing = asyncio.create_task(cache.get("slow", slowly))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert (await cache.get("kept", slowly)).value == "kept"
    finish.set()
    assert (await computing).value == "slow"


async def test_one_answer_is_computed_at_a_time_and_once_for_all_who_wait() -> None:
    cache = Cache(60)
    computing, computed = 0, 0

    async def compute() -> int:
        nonlocal computing, computed
        computing, computed = computing + 1, computed + 1
        await asyncio.sleep(0)
        assert computing == 1
        computing -= 1
        return computed

    await asyncio.gather(*(cache.get(key, compute) for key in "abcabcabc"))
    assert computed == 3
