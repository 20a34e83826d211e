"""A processor that starts with other labels or buckets on the same database takes no count back."""

from collections.abc import Iterable
from itertools import count

from processor.pipeline import Pipeline
from processor.policy import exposed_catalogue, policy_of
from processor.scrape import Page
from shared.admin import exposition
from shared.delivery import Delivery
from shared.settings import ProcessorSettings
from tests.support import builders, figures
from tests.support.figures import GROWING, Figures, assert_never_down, total
from tests.support.worker import ListBatch, Worker

OPTIONAL = {"job_name", "event"}
FLAKY = "promgithub_job_flaky"
"""Its label `job_name` is not optional."""

IDS = count(1)


class Configured:
    """A processor with the lease that has started with these settings on the database of a worker."""

    def __init__(self, counting: Worker, **settings: str) -> None:
        self._counting = counting
        loaded = ProcessorSettings.model_validate({"branches": "main"} | settings)
        self._catalogue = exposed_catalogue(loaded)
        self._pipeline = Pipeline(counting.store, policy_of(loaded), counting.metrics, counting.stop)

    async def count(self, deliveries: Iterable[Delivery]) -> None:
        """Count deliveries in one batch."""
        batch = ListBatch(list(deliveries))
        await self._pipeline.process(batch)
        assert (batch.acked, batch.dead) == (True, [])

    async def merge(self) -> int:
        """Add up the series that are equal without a label, as a processor does at its start."""
        chores = self._counting.chores(catalogue=self._catalogue)
        return await chores.merge()

    async def page(self) -> Figures:
        """Return what the processor exposes about CI."""
        page = Page([], await self._counting.snapshot(), self._counting.max_series, self._catalogue)
        return figures.of_ci(figures.of_text(exposition.page(page, openmetrics=False).decode()))


def ended(name: str = "test", waited: int = 30) -> list[Delivery]:
    """Return the deliveries of a run of one job that waited and then ran for 90 s."""
    number = next(IDS)
    run = builders.run(number, status="completed", conclusion="success", updated=500)
    job = builders.job(
        number,
        run_id=number,
        status="completed",
        conclusion="success",
        started=waited,
        completed=waited + 90,
        name=name,
        runner=number,
    )
    return [builders.delivery(run), builders.delivery(job)]


def without_optional(page: Figures) -> Figures:
    """Return what may only grow, summed over the optional labels."""
    sums: dict[figures.Sample, float] = {}
    for (name, labels), value in page.items():
        if name.endswith(GROWING):
            kept = labels if name.startswith(FLAKY) else frozenset(one for one in labels if one[0] not in OPTIONAL)
            sums[name, kept] = sums.get((name, kept), 0) + value
    return sums


async def test_labels_that_are_switched_on_and_off_take_no_count_back(counting: Worker) -> None:
    without, having = Configured(counting), Configured(counting, labels="job_name,event")
    before: Figures = {}
    jobs = 0
    for processor in (without, having, without, having, having, without):
        await processor.merge()
        page = without_optional(await processor.page())
        assert_never_down(before, page)
        await processor.count([*ended("test (1)"), *ended("test (2)"), *ended("lint")])
        jobs += 3
        before = without_optional(await processor.page())
        assert_never_down(page, before)
        assert total(before, "promgithub_job_status_total", job_status="completed") == jobs
        assert total(before, "promgithub_job_duration_seconds_count") == jobs
        assert total(before, "promgithub_job_busy_seconds_total") == 90 * jobs
        assert total(before, "promgithub_workflow_status_total", workflow_status="completed") == jobs


async def test_an_optional_label_has_the_name_of_the_job_and_the_event_of_the_run(counting: Worker) -> None:
    having = Configured(counting, labels="job_name,event")
    await having.count([*ended("test (1)"), *ended("test (2)"), *ended("lint")])
    page = await having.page()
    completed = {"job_status": "completed"}
    assert total(page, "promgithub_job_status_total", **completed, job_name="test") == 2
    assert total(page, "promgithub_job_status_total", **completed, job_name="lint") == 1
    assert total(page, "promgithub_workflow_status_total", workflow_status="completed", event="push") == 3
    assert not [labels for (_, labels) in await Configured(counting).page() if {"event"} & dict(labels).keys()]


async def test_chosen_buckets_apply_to_what_was_counted_before(counting: Worker) -> None:
    default = Configured(counting)
    await default.count([*ended(waited=1), *ended(waited=100), *ended(waited=800), *ended(waited=4000)])
    before = await default.page()
    page = await Configured(counting, queue_buckets="0.5,60,900", duration_buckets="60,120").page()
    waited = "promgithub_job_queue_seconds"
    buckets = {
        dict(labels)["le"]: value for (name, labels), value in page.items() if name == f"{waited}_bucket" and value >= 0
    }
    assert buckets == {"0.5": 0, "60.0": 1, "900.0": 3, "+Inf": 4}
    for name in (f"{waited}_sum", f"{waited}_count", "promgithub_job_duration_seconds_sum"):
        assert total(page, name) == total(before, name) > 0
    ran = {
        dict(labels)["le"]: value
        for (name, labels), value in page.items()
        if name.endswith("job_duration_seconds_bucket")
    }
    assert ran == {"60.0": 0, "120.0": 4, "+Inf": 4}
