"""Scrapers see a new series as 0 until it is released; everybody else sees its value at once."""

import asyncio
import json
import time
import uuid
from datetime import timedelta

from sqlalchemy import insert, text

from processor.housekeeping import Housekeeping
from processor.store.held_series import RELEASE_CHUNK
from processor.store.tables import counters
from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.servers.postgres import fresh_database
from tests.support.worker import Worker, worker

HELD_FOR = 150
DAY = 86_400
SERIES_TTL = timedelta(days=30)


def chores_of(counting: Worker, held_for: int = HELD_FOR) -> Housekeeping:
    return counting.chores(series_ttl=SERIES_TTL, new_series_seconds=held_for)


def push(repository: str = "acme/gears") -> Delivery:
    return builders.delivery(builders.push(repo=builders.repository(repository)))


def finished_run(run_id: int = 1) -> Delivery:
    body = builders.run(run_id, status="completed", conclusion="failure", began=0, updated=90)
    return builders.delivery(body)


def pushes(page: Figures, repository: str = "acme/gears") -> float:
    return figures.value(page, "promgithub_push_total", repository=repository)


async def held(counting: Worker) -> float:
    return figures.value(figures.of_text(await counting.page()), "promgithub_series_held")


def growing(page: Figures) -> list[float]:
    """Return the values of all samples that can only grow."""
    return [value for (name, _), value in page.items() if name.endswith(figures.GROWING)]


async def test_a_scraper_sees_every_sample_of_a_new_series_as_0_and_others_see_the_values(counting: Worker) -> None:
    await counting.count([push(), finished_run()])
    to_scraper, to_others = await counting.figures(to_scraper=True), await counting.figures()
    assert to_scraper.keys() == to_others.keys()
    assert set(growing(to_scraper)) == {0}
    assert pushes(to_others) == 1
    assert figures.total(to_others, "promgithub_workflow_duration_seconds_sum") == 90
    assert await held(counting) == 4  # pushes, commits, the status and the duration of the run


async def test_a_held_series_says_in_openmetrics_that_it_began_when_it_was_created(counting: Worker) -> None:
    await counting.count([push(), finished_run()])

    def began(page: str) -> list[str]:
        return [line for line in page.splitlines() if "_created" in line]

    to_scraper = await counting.page(openmetrics=True, to_scraper=True)
    assert 'promgithub_push_total{repository="acme/gears"} 0.0' in to_scraper
    assert began(to_scraper) == began(await counting.page(openmetrics=True))
    assert len(began(to_scraper)) == 4


async def test_a_series_is_released_once_it_is_old_enough_and_never_held_again(counting: Worker) -> None:
    chores = chores_of(counting)
    await counting.count([push(), finished_run()])
    await counting.age(HELD_FOR - 5)
    assert await chores.release() == 0
    assert pushes(await counting.figures(to_scraper=True)) == 0
    await counting.age(6)
    assert await chores.release() == 4
    assert await counting.figures(to_scraper=True) == await counting.figures()
    assert await held(counting) == 0

    await counting.age(-DAY)  # the clock steps back
    await counting.count([push(), finished_run(2)])
    assert await chores_of(counting, DAY).release() == 0
    to_scraper = await counting.figures(to_scraper=True)
    assert to_scraper == await counting.figures()
    assert pushes(to_scraper) == 2


async def test_a_clock_that_steps_back_holds_no_series_for_longer_than_twice_the_time(counting: Worker) -> None:
    await counting.count([push()])
    await counting.age(-(HELD_FOR - 5))
    assert await chores_of(counting).release() == 0
    await counting.age(-6)
    assert await chores_of(counting).release() == 2


async def test_another_processor_shows_scrapers_the_same(store_url: str) -> None:
    async with worker(store_url) as one, worker(store_url) as other:
        await one.count([push("acme/old")])
        await one.age(HELD_FOR + 1)
        assert await chores_of(one).release() == 2
        await one.count([push("acme/new")])
        page = await other.figures(to_scraper=True)
        assert (pushes(page, "acme/old"), pushes(page, "acme/new")) == (1, 0)
        assert await chores_of(other).release() == 0


async def test_nothing_is_held_if_it_is_switched_off_and_what_was_held_is_released(store_url: str) -> None:
    async with worker(store_url) as before:
        await before.count([push("acme/held")])
    async with worker(store_url, hold=False) as counting:
        await counting.count([push("acme/new")])
        assert pushes(await counting.figures(to_scraper=True), "acme/new") == 1
        assert await chores_of(counting, 0).release() == 2
        assert pushes(await counting.figures(to_scraper=True), "acme/held") == 1


async def test_a_series_that_returns_after_its_removal_is_held_again(counting: Worker) -> None:
    chores = chores_of(counting)
    await counting.count([push()])
    await counting.age(SERIES_TTL.total_seconds() + 1)
    await chores.release()
    await chores.forget()
    await counting.count([push()])
    assert pushes(await counting.figures(to_scraper=True)) == 0
    assert pushes(await counting.figures()) == 1


async def test_more_series_than_one_transaction_takes_are_all_released(counting: Worker) -> None:
    many = 2 * RELEASE_CHUNK + 1
    created_at = int((time.time() - HELD_FOR - 60) * 1000)
    moments = {"held": True, "created_at": created_at, "touched_at": created_at}
    names = (json.dumps({"repository": f"acme/{n}"}) for n in range(many))
    rows = [{"key": uuid.uuid4(), "metric": "promgithub_push", "labels": name, "value": 1, **moments} for name in names]
    async with counting.engine.begin() as connection:
        await connection.execute(insert(counters), rows)
    assert await chores_of(counting).release() == many
    assert figures.total(await counting.figures(to_scraper=True), "promgithub_push_total") == many


async def test_series_are_released_while_they_are_counted(postgres_url: str) -> None:
    repositories = [f"acme/r{n}" for n in range(100)]
    rounds = 10

    async def count(counting: Worker) -> None:
        for _ in range(rounds):
            await counting.count([push(repository) for repository in repositories])

    async def hold_and_release(counting: Worker, ended: asyncio.Event) -> None:
        hold = "UPDATE counters SET held = true WHERE key IN (SELECT key FROM counters ORDER BY key FOR UPDATE)"
        while not ended.is_set():
            async with counting.engine.begin() as connection:
                await connection.execute(text(hold))
            await chores_of(counting, 0).release()

    async with fresh_database(postgres_url) as url, worker(url) as one, worker(url) as other:
        ended = asyncio.Event()
        releasing = asyncio.create_task(hold_and_release(one, ended))
        await asyncio.gather(count(one), count(other))
        ended.set()
        await releasing
        assert await held(one) == 0
        page = await one.figures(to_scraper=True)
        assert figures.total(page, "promgithub_push_total") == 2 * rounds * len(repositories)
