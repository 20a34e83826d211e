"""Releases with different labels, buckets and names share a store; no row makes a page or a housekeeping task fail.

All tests check that `/metrics` never fails, that no increment changes its labels, and that no counter decreases from
one page to the next.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert, select, text, update

from processor.counting.catalogue import STORED_BOUNDS
from processor.store.tables import BUCKET_COLUMNS, counters, gauge_labels, histograms
from tests.support import builders, figures
from tests.support.releases import NAME, Release, assert_only_grows
from tests.support.worker import Worker


class Repository(NamedTuple):
    """The labels of the release with fewer."""

    repository: str


class RepositoryAndClass(NamedTuple):
    """The labels of the release with more; the label that it alone has is not the last by name."""

    repository: str
    klass: str


@asynccontextmanager
async def watching(release: Release) -> AsyncIterator[None]:
    """Scrape a release meanwhile; nothing on its pages ever becomes less."""
    stop = asyncio.Event()

    async def watch() -> None:
        before = await release.page()
        while not stop.is_set():
            after = await release.page()
            assert_only_grows(before, after)
            before = after

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        yield
        stop.set()


async def only_grows(release: Release, step: Awaitable[Any]) -> None:
    before = await release.page()
    await step
    assert_only_grows(before, await release.page())


async def again_and_again(times: int, step: Callable[[], Awaitable[Any]]) -> None:
    for _ in range(times):
        await step()


# --- Releases ---


async def test_a_label_that_is_added_is_empty_in_what_was_counted_before(counting: Worker) -> None:
    old, new = Release(counting, Repository), Release(counting, RepositoryAndClass)
    await old.count("acme/gears", times=3)
    assert await new.builds() == {("acme/gears", ""): 3}
    await only_grows(new, new.count("acme/gears", "gpu", times=2))
    await only_grows(new, old.count("acme/gears"))  # an older process still counts
    await only_grows(new, new.count("acme/gears", ""))  # the same series as of the older one
    assert await new.builds() == {("acme/gears", ""): 5, ("acme/gears", "gpu"): 2}
    assert await new.merge() == 0
    assert await new.unreadable() == 0


async def test_series_are_merged_once_when_a_label_is_dropped(counting: Worker) -> None:
    old, new = Release(counting, RepositoryAndClass), Release(counting, Repository)
    await old.count("acme/gears", "gpu", times=3, milliseconds=700)
    await old.count("acme/gears", "cpu", times=2, milliseconds=1500)
    await old.count("acme/gears", "")
    await old.count("acme/cogs", "gpu", times=4)
    assert await new.builds() == {("acme/gears",): 1}
    assert await new.unreadable() == 6  # three of each metric
    await only_grows(new, new.merge())
    assert await new.builds() == {("acme/gears",): 6, ("acme/cogs",): 4}
    assert await new.unreadable() == 0
    assert await new.merge() == 0
    page = await new.page()
    assert figures.value(page, f"{NAME}_seconds_sum", repository="acme/gears") == 3 * 0.7 + 3 * 1.5
    assert figures.value(page, f"{NAME}_seconds_bucket", repository="acme/gears", le="1.0") == 3
    assert figures.value(page, f"{NAME}_seconds_bucket", repository="acme/gears", le="5.0") == 6


async def test_what_an_older_process_counts_after_the_merge_is_added_up_by_the_next(counting: Worker) -> None:
    old, new = Release(counting, RepositoryAndClass), Release(counting, Repository)
    await old.count("acme/gears", "gpu", times=3)
    await new.merge()
    await only_grows(new, old.count("acme/gears", "gpu", times=2))
    await only_grows(new, new.count("acme/gears"))
    assert await new.builds() == {("acme/gears",): 4}
    assert await new.unreadable() == 2
    await only_grows(new, new.merge())
    assert await new.builds() == {("acme/gears",): 6}
    assert await new.unreadable() == 0


async def test_a_label_that_is_dropped_and_added_again_takes_nothing_back(counting: Worker) -> None:
    release, without = Release(counting, RepositoryAndClass), Release(counting, Repository)
    await release.count("acme/gears", "gpu", times=3)
    await release.count("acme/gears", "", times=2)
    await without.merge()
    assert await without.builds() == {("acme/gears",): 5}
    assert await release.builds() == {("acme/gears", ""): 5}
    await only_grows(release, release.count("acme/gears", "gpu"))
    assert await release.builds() == {("acme/gears", ""): 5, ("acme/gears", "gpu"): 1}
    assert await release.merge() == 0


async def test_a_label_that_is_dropped_before_the_merge_and_added_again_is_as_it_was(counting: Worker) -> None:
    release, without = Release(counting, RepositoryAndClass), Release(counting, Repository)
    await release.count("acme/gears", "gpu", times=3)
    before = await release.page()
    await without.count("acme/gears", times=2)
    assert await without.builds() == {("acme/gears",): 2}
    assert_only_grows(before, await release.page())
    assert await release.builds() == {("acme/gears", "gpu"): 3, ("acme/gears", ""): 2}


async def test_a_merged_series_counts_since_the_first_of_its_parts_and_is_held_only_if_all_were(
    counting: Worker,
) -> None:
    old, new = Release(counting, RepositoryAndClass), Release(counting, Repository)
    await old.count("acme/gears", "gpu")
    await counting.age(100)
    async with counting.engine.begin() as connection:
        await connection.execute(update(counters).values(held=False))
        first = [await connection.scalar(select(table.c.created_at)) for table in (counters, histograms)]
    await old.count("acme/gears", "cpu")
    await new.count("acme/gears")
    await new.merge()
    async with counting.engine.begin() as connection:
        rows = [
            tuple(row)
            for table, began in zip((counters, histograms), first, strict=True)
            for row in await connection.execute(select(table.c.created_at == began, table.c.held))
        ]
    assert rows == [(True, False), (True, True)]


@pytest.mark.parametrize(
    ("before", "after"), [((1000, 5000), (1000, 2000, 5000)), ((1000, 2000, 5000), (1000, 5000))], ids=["more", "fewer"]
)
async def test_other_buckets_show_what_was_counted_before_too(
    counting: Worker, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    old = Release(counting, Repository, buckets=before)
    new = Release(counting, Repository, buckets=after)
    for milliseconds in (700, 1500, 4000, 9000):
        await old.count("acme/gears", milliseconds=milliseconds)
    earlier = await old.page()
    assert_only_grows(earlier, await new.page())
    await only_grows(new, old.count("acme/gears", milliseconds=1500))
    await only_grows(new, new.count("acme/gears", milliseconds=1500))
    page = await new.page()
    assert_only_grows(earlier, page)
    buckets = {dict(labels)["le"]: value for (name, labels), value in page.items() if name == f"{NAME}_seconds_bucket"}
    stored = {"1.0": 1, "2.0": 4, "5.0": 5, "+Inf": 6}
    assert buckets == {le: n for le, n in stored.items() if le == "+Inf" or int(1000 * float(le)) in after}


async def test_every_stored_bound_can_be_exposed(counting: Worker) -> None:
    release = Release(counting, Repository, buckets=STORED_BOUNDS)
    for bound in STORED_BOUNDS:
        await release.count("acme/gears", milliseconds=bound)
        await release.count("acme/gears", milliseconds=bound + 1)
    page = await release.page()
    buckets = {
        float(dict(labels)["le"]): value for (name, labels), value in page.items() if name == f"{NAME}_seconds_bucket"
    }
    expected = {bound / 1000: 2 * place + 1 for place, bound in enumerate(STORED_BOUNDS)}
    assert buckets == expected | {float("inf"): 2 * len(STORED_BOUNDS)}


async def test_a_renamed_metric_begins_at_nothing_and_the_old_name_is_left_out(counting: Worker) -> None:
    old, new = Release(counting, Repository), Release(counting, Repository, name="promgithub_compilation")
    await old.count("acme/gears", times=3)
    assert await new.builds() == {}
    await only_grows(new, new.count("acme/gears"))
    await old.count("acme/gears")
    assert await new.builds() == {("acme/gears",): 1}
    assert not [name for name, _ in await new.page() if name.startswith(NAME)]
    assert (await new.merge(), await new.unreadable()) == (0, 0)
    assert await old.builds() == {("acme/gears",): 4}  # if the older release comes back


async def test_a_series_past_the_bound_stays_in_the_overflow_when_a_label_is_dropped(counting: Worker) -> None:
    old, new = Release(counting, RepositoryAndClass), Release(counting, Repository)
    counting.store._max_series = 2
    for n in range(5):
        await old.count("acme/gears", f"class {n}")
    await new.merge()
    assert await new.builds() == {("acme/gears",): 2, ("__overflow__",): 3}
    await only_grows(new, new.count("acme/cogs"))
    await only_grows(new, new.count("acme/belts"))
    assert await new.builds() == {("acme/gears",): 2, ("acme/cogs",): 1, ("__overflow__",): 4}


async def test_releases_that_count_merge_and_scrape_at_once_lose_nothing_and_take_nothing_back(
    counting: Worker,
) -> None:
    old, new = Release(counting, RepositoryAndClass), Release(counting, Repository, buckets=(1000, 2000, 5000))
    repositories = [f"acme/{n}" for n in range(8)]
    batch = [(repository, klass) for repository in repositories for klass in ("gpu", "cpu", "")]
    async with watching(new), asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(again_and_again(30, lambda: old.count_each(batch)))
        tasks.create_task(again_and_again(30, lambda: new.count_each((one,) for one in repositories)))
        tasks.create_task(again_and_again(30, new.merge))
    await new.merge()
    assert await new.builds() == {(repository,): 2 * 30 * 3 + 30 for repository in repositories}
    assert await new.unreadable() == 0


async def test_an_added_label_is_counted_beside_an_older_process_without_loss(counting: Worker) -> None:
    old, new = Release(counting, Repository), Release(counting, RepositoryAndClass)
    await old.count("acme/gears", times=10)
    async with watching(new), asyncio.TaskGroup() as tasks:
        tasks.create_task(again_and_again(30, lambda: old.count("acme/gears")))
        for klass in ("gpu", "cpu"):
            tasks.create_task(again_and_again(30, lambda klass=klass: new.count("acme/gears", klass)))  # type: ignore[misc]
        tasks.create_task(again_and_again(10, new.merge))
    assert await new.builds() == {("acme/gears", ""): 40, ("acme/gears", "gpu"): 30, ("acme/gears", "cpu"): 30}


# --- Rows that cannot be read ---


async def unreadable(counting: Worker) -> float:
    return figures.value(figures.of_text(await counting.page()), "promgithub_series_unreadable")


async def add_push(counting: Worker, labels: str, value: int = 3) -> None:
    """Put a series of the counter of pushes, and one of its like of a histogram, into the store."""
    row = {"labels": labels, "held": False, "created_at": 1_764_000_000_000, "touched_at": 1_764_000_000_000}
    buckets = dict.fromkeys(BUCKET_COLUMNS, 0) | {"sum_ms": 1000, "le_1000": 1}
    async with counting.engine.begin() as connection:
        await connection.execute(
            insert(counters).values(key=uuid.uuid4(), metric="promgithub_push", value=value, **row)
        )
        waits = {"key": uuid.uuid4(), "metric": "promgithub_job_queue_seconds"}
        await connection.execute(insert(histograms).values(**waits, **row, **buckets))


async def test_labels_with_one_too_few_read_as_an_empty_one(counting: Worker) -> None:
    await add_push(counting, '{"repository":"acme/gears"}')
    await add_push(counting, "{}", 5)
    counted = await counting.figures()
    assert figures.value(counted, "promgithub_push_total", repository="") == 5
    labels = {"repository": "acme/gears", "workflow_name": ""}
    assert figures.total(counted, "promgithub_job_queue_seconds_count", **labels) == 1
    assert await unreadable(counting) == 0


async def test_labels_with_one_too_many_are_left_out_until_they_are_merged(counting: Worker) -> None:
    await counting.count([builders.delivery(builders.push())])
    await add_push(counting, '{"repository":"acme/gears","zone":"x"}')
    assert figures.total(await counting.figures(), "promgithub_push_total") == 1
    assert await unreadable(counting) == 2
    assert await counting.chores().merge() == 2
    assert figures.total(await counting.figures(), "promgithub_push_total") == 4
    assert await unreadable(counting) == 0


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the errors that a scrape logs, whatever an earlier test of this process has made of the log."""
    lines: list[str] = []

    class Log:
        def error(self, event: str, **_fields: object) -> None:
            lines.append(event)

    monkeypatch.setattr("processor.scrape._log", Log())
    return lines


@pytest.mark.parametrize(
    "labels",
    [
        "",
        "nonsense {}",
        "null",
        '["{}"]',
        '{{"repository":"{}"',
        '{{"repository":null,"{}":""}}',
        '{{"repository":7,"{}":""}}',
    ],
)
async def test_labels_that_cannot_be_read_are_left_out_counted_and_logged_once(
    counting: Worker, labels: str, logged: list[str]
) -> None:
    await counting.count([builders.delivery(builders.push())])
    own = labels.format(uuid.uuid4())
    await add_push(counting, own)
    for _ in range(2):
        assert figures.total(await counting.figures(), "promgithub_push_total") == 1
        assert await unreadable(counting) == 2
    if own not in {"", "null"}:  # other tests have these, and a process logs them once
        assert sum("left out of /metrics" in line for line in logged) == 2  # of each metric
    assert await counting.chores().merge() == 0
    await counting.count([builders.delivery(builders.push())])
    assert figures.total(await counting.figures(), "promgithub_push_total") == 2


@pytest.mark.parametrize("labels", ["nonsense", '{"repository":null}'])
async def test_labels_of_gauges_that_cannot_be_read_are_left_out_and_counted(counting: Worker, labels: str) -> None:
    await counting.count([builders.delivery(builders.run())])
    row = {"key": uuid.uuid4(), "metric": "promgithub_workflow", "labels": labels, "touched_at": 1_764_000_000_000}
    async with counting.engine.begin() as connection:
        await connection.execute(insert(gauge_labels).values(**row))
    assert figures.total(await counting.figures(), "promgithub_workflow_queued") == 1
    assert await unreadable(counting) == 1


async def test_labels_of_gauges_with_one_too_many_show_0_without_it(counting: Worker) -> None:
    row = {
        "key": uuid.uuid4(),
        "metric": "promgithub_workflow",
        "labels": '{"branch":"main","repository":"acme/gears","workflow_name":"build","zone":"x"}',
        "touched_at": 1_764_000_000_000,
    }
    async with counting.engine.begin() as connection:
        await connection.execute(insert(gauge_labels).values(**row))
    labels = {"branch": "main", "repository": "acme/gears", "workflow_name": "build"}
    assert figures.value(await counting.figures(), "promgithub_workflow_queued", **labels) == 0
    assert await unreadable(counting) == 0


BREAKS = {
    "unknown phase": "UPDATE {} SET phase = 'parked {}'",
    "null label": "UPDATE {} SET branch = NULL, workflow_name = '{}'",
    "state of another shape": """UPDATE {} SET state = '{{"parked": "{}"}}'""",
    "state of another length": "UPDATE {} SET state = '[\"{}\"]'",
    "state that is no JSON": "UPDATE {} SET state = 'nonsense {}'",
}
"""SQL that breaks all open rows of a table, each as no release has left one so far."""

SHOWN = {"unknown phase", "null label"}
"""What cannot be shown in gauges; the others are shown as their columns say."""


async def break_open(counting: Worker, how: str) -> None:
    async with counting.engine.begin() as connection:
        for table in ("runs", "jobs"):
            await connection.execute(text(BREAKS[how].format(table, uuid.uuid4()) + " WHERE phase IS NOT NULL"))


EARLY = (
    builders.run(status="in_progress"),
    builders.job(),
    builders.job(status="in_progress", started=9, runner=5),
)
LATE = (
    builders.run(status="completed", conclusion="success", updated=90),
    builders.job(status="completed", conclusion="success", started=9, completed=60, runner=5),
)


@pytest.mark.parametrize("how", BREAKS)
async def test_an_open_row_that_cannot_be_read_does_not_end_the_page(
    counting: Worker, how: str, logged: list[str]
) -> None:
    await counting.count(map(builders.delivery, EARLY))
    await break_open(counting, how)
    await counting.count([builders.delivery(builders.job(2)), builders.delivery(builders.run(2))])
    logged.clear()
    for _ in range(2):
        counted = await counting.figures(ages=True)
        assert figures.total(counted, "promgithub_job_queued") == 1
        assert figures.total(counted, "promgithub_workflow_queued") == 1
        running = 0 if how in SHOWN else 1
        assert figures.total(counted, "promgithub_job_in_progress") == running
        assert figures.total(counted, "promgithub_workflow_in_progress") == running
        assert await unreadable(counting) == (2 if how in SHOWN else 0)
    if how == "unknown phase":
        assert sum("left out of /metrics" in line for line in logged) == 2  # of runs and of jobs


@pytest.mark.parametrize("how", BREAKS)
async def test_news_of_a_row_that_cannot_be_read_is_no_dead_letter_and_counts_nothing_twice(
    counting: Worker, how: str
) -> None:
    payloads = (*EARLY, *EARLY, *LATE, *LATE)
    await counting.count(map(builders.delivery, payloads))
    truth = await counting.figures()
    await counting.clear()

    await counting.count(map(builders.delivery, EARLY))
    await break_open(counting, how)
    for payload in payloads:
        batch = await counting.count([builders.delivery(payload)])
        assert batch.dead == []
    assert await counting.figures() == truth
    assert await unreadable(counting) == 0


@pytest.mark.parametrize("state", ["nonsense", '{"claims":1}', "[[]]"])
async def test_an_execution_that_cannot_be_read_counts_nothing_twice(counting: Worker, state: str) -> None:
    twins = [
        builders.job(n, status="completed", conclusion="success", started=9, completed=60, runner=n) for n in (5, 6)
    ]
    await counting.count(map(builders.delivery, twins))
    truth = await counting.figures()
    async with counting.engine.begin() as connection:
        await connection.execute(text("UPDATE executions SET state = :state"), {"state": state})
    for twin in (*twins, *twins):
        batch = await counting.count([builders.delivery(twin)])
        assert batch.dead == []
    assert await counting.figures() == truth


@pytest.mark.parametrize("how", BREAKS)
async def test_chores_go_on_where_a_row_cannot_be_read(counting: Worker, how: str) -> None:
    await counting.count(map(builders.delivery, EARLY))
    early = builders.job(3, run_id=3, status="in_progress", created=9, started=5, runner=5)
    await counting.count([builders.delivery(early)])
    await break_open(counting, how)
    second = [
        builders.job(4, run_id=4, status="in_progress", created=9, started=5, runner=5),
        builders.run(4, status="in_progress"),
    ]
    await counting.count(map(builders.delivery, second))
    await counting.age(40 * 86_400)
    chores = counting.chores()
    await chores.close_stale()
    assert await chores.close_stale() == 0
    await chores.settle()
    assert await chores.settle() == 0
    await chores.merge()
    await chores.forget()
    counted = await counting.figures()
    broken = 1 if how.startswith("state") else 0  # nothing can be settled of it
    assert figures.total(counted, "promgithub_anomaly_total", kind="negative_queue_time") == 2 - broken
    unsettled = figures.of_text(await counting.page())
    assert figures.total(unsettled, "promgithub_unsettled") == 0
    closed = 2 if how == "unknown phase" else 5  # how long one may be in an unknown phase is unknown
    assert figures.total(counted, "promgithub_stale_total") == closed


async def test_a_row_that_was_closed_without_being_read_opens_again_by_news(counting: Worker) -> None:
    await counting.count([builders.delivery(builders.job())])
    await break_open(counting, "state of another shape")
    await counting.age(49 * 3600)
    assert await counting.chores().close_stale() == 1
    assert figures.total(await counting.figures(), "promgithub_job_queued") == 0
    await counting.count([builders.delivery(builders.job(status="in_progress", started=9, runner=5))])
    counted = await counting.figures()
    assert figures.total(counted, "promgithub_job_in_progress") == 1
    assert figures.total(counted, "promgithub_job_status_total", job_status="queued") == 1
    assert figures.total(counted, "promgithub_job_queue_seconds_count") == 1
