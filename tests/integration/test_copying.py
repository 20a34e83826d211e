"""A store that was copied to another kind of database continues to count correctly."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, text

from processor.store.copying import COPIED, copy
from processor.store.tables import metadata
from shared.delivery import Delivery
from shared.errors import StoreError
from tests.support import builders, figures
from tests.support.figures import Figures
from tests.support.worker import Worker, worker

EARLY = (
    builders.run(status="in_progress"),
    builders.run(2, status="completed", conclusion="success", began=9, updated=5),  # unsettled
    builders.job(1, attempt=1, status="completed", conclusion="failure", started=9, completed=60, runner=5),
    builders.job(2, status="in_progress", started=7, runner=6, name="lint"),
    builders.job(3, gate=0, name="deploy"),
    builders.job(3, status="in_progress", started=9, runner=7, gate=5, name="deploy"),  # its queue time is unsettled
    builders.job(2**62, workflow='say "hi" \\ \n 🚀 \0'),
    builders.push(3),
    builders.pull_request(),
)
LATE = (
    builders.run(status="completed", conclusion="success", updated=90),
    builders.job(4, attempt=2, status="completed", conclusion="failure", started=9, completed=60, runner=5),
    builders.job(2, status="completed", conclusion="success", started=7, completed=67, runner=6, name="lint"),
    builders.job(3, gate=5, name="deploy"),
    builders.push(),
)


@pytest_asyncio.fixture
async def stores(database_url: str, tmp_path: Path) -> AsyncIterator[Sequence[Worker]]:
    """Give a store that is never copied, and three to copy through: SQLite, PostgreSQL, SQLite."""
    urls = [f"sqlite:///{tmp_path}/only.db", f"sqlite:///{tmp_path}/first.db", database_url]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(worker(url)) for url in (*urls, f"sqlite:///{tmp_path}/last.db")]


async def copied(source: Worker, target: Worker) -> None:
    """Copy a store; every row of it is in the target."""
    async for _ in copy(source.engine, target.engine):
        pass
    assert await content(source) == await content(target)


async def content(counting: Worker) -> dict[str, list[Any]]:
    async with counting.store.connection() as connection:
        return {table.name: sorted((await connection.execute(select(table))).all(), key=repr) for table in COPIED}


async def settled(counting: Worker) -> Figures:
    """Let the grace pass, settle, and return all figures, with what waits."""
    await counting.age(700)
    chores = counting.chores()
    await chores.settle()
    await chores.release()
    page = figures.of_text(await counting.page())
    return {sample: value for sample, value in page.items() if "_oldest_age_" not in sample[0]}


def test_every_table_but_leases_and_locks_is_copied() -> None:
    assert {table.name for table in COPIED} == set(metadata.tables) - {"leases", "locks"}


async def test_a_store_that_is_copied_there_and_back_goes_on_counting_exactly(stores: Sequence[Worker]) -> None:
    only, first, second, last = stores
    early = [builders.delivery(payload, builders.guid(at)) for at, payload in enumerate(EARLY)]
    late = [builders.delivery(payload, builders.guid(100 + at)) for at, payload in enumerate(LATE)]
    again = [builders.delivery(payload) for payload in (*EARLY, *LATE)]
    parts: list[list[Delivery]] = [early, late[:3], [*late[3:], *early, *late]]
    for part in (*parts, again):
        await only.count(part)

    await first.count(parts[0])
    async with first.engine.begin() as connection:
        await connection.execute(text("UPDATE counters SET held = (metric = 'promgithub_push')"))
    await copied(first, second)
    await second.count(parts[1])
    await copied(second, last)
    await last.count(parts[2])
    await last.count(again)
    truth = await settled(only)
    assert await settled(last) == truth
    assert figures.total(truth, "promgithub_anomaly_total", kind="negative_run_duration") == 1
    assert figures.total(truth, "promgithub_anomaly_total", kind="carried_over_job") == 1
    assert figures.total(truth, "promgithub_job_queue_seconds_sum") == 9 + 7 + 4


async def test_a_series_that_grows_after_the_copy_is_the_same_series(stores: Sequence[Worker]) -> None:
    _, first, second, _ = stores
    await first.count([builders.delivery(builders.push(2))])
    await copied(first, second)
    before = await content(second)
    await second.count([builders.delivery(builders.push(2))])
    after = await content(second)
    assert len(before["counters"]) == len(after["counters"]) == 2
    assert figures.total(await second.figures(), "promgithub_commit_pushed_total") == 4


async def test_a_target_with_rows_is_refused_and_left_as_it_is(stores: Sequence[Worker]) -> None:
    _, first, second, _ = stores
    await first.count([builders.delivery(builders.push())])
    await second.count([builders.delivery(builders.run())])
    before = await content(second)
    with pytest.raises(StoreError, match="takes an empty database"):
        async for _ in copy(first.engine, second.engine):
            pass
    assert await content(second) == before
