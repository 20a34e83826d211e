"""The choice of the run or job that is the exemplar of a bucket, and its form on the page."""

import math
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from processor.counting.catalogue import (
    CATALOGUE,
    DURATION_BOUNDS,
    EXPOSED,
    JOB_DURATION,
    JOB_QUEUE,
    STORED_BOUNDS,
    WORKFLOW_DURATION,
)
from processor.counting.ci_metrics import Catalogue, CiHistogram, CiMetric, labels_text, named_labels
from processor.counting.events import Policy
from processor.counting.exemplars import LABELS, MOST_DELAY, WINDOW, Exemplar, SeriesExemplars, exemplars
from processor.counting.jobs import JOBS
from processor.counting.label_values import BranchPolicy
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runs import RUNS
from processor.counting.snapshot import ClosedRow, HistogramRow, Snapshot
from processor.counting.subjects import Subject
from processor.exposition.families import families
from shared.admin import exposition
from tests.support import builders
from tests.support.memory import Memory
from tests.support.worlds import World, worlds

NOW = int(builders.START.timestamp() * 1000) + 3_600_000
"""One hour after `builders.START`, Unix ms."""

JUST_NOW = 3_600 - 10
"""When the runs and jobs of these tests end, in seconds after `builders.START`."""

TRACKED: Sequence[Subject[Any, Any]] = (RUNS, JOBS)

POLICY = Policy(BranchPolicy("main"), "github.com", RunnerClasses(), frozenset({"job_name", "event"}))


def counted(*payloads: builders.Payload) -> Memory:
    """Count deliveries one after the other."""
    memory = Memory(POLICY)
    for payload in payloads:
        memory.count([builders.delivery(payload)])
    return memory


def closed(memory: Memory, closed_at: int = NOW) -> dict[str, list[ClosedRow]]:
    """Return the closed rows, as the store reads them."""
    return {
        subject.name: [
            ClosedRow(key, row.known, row.flags, closed_at)
            for key, row in memory.rows(subject).items()
            if row.known is not None and subject.phase(row.known) is None
        ]
        for subject in TRACKED
    }


def snapshot(
    rows: dict[str, list[ClosedRow]], now: int = NOW, histograms: dict[str, list[HistogramRow]] | None = None
) -> Snapshot:
    return Snapshot(now, {}, histograms or {}, {}, {}, {}, closed=rows)


def found(*payloads: builders.Payload, catalogue: Catalogue = CATALOGUE) -> dict[str, list[tuple[Any, ...]]]:
    """Return the exemplars after deliveries: by metric, the bucket's bound in seconds, the value and the labels."""
    made = exemplars(snapshot(closed(counted(*payloads))), catalogue)
    return {
        name: [
            ((*histogram(catalogue, name).buckets, math.inf)[place] / 1000, one.milliseconds / 1000, dict(one.labels))
            for series in by_series.values()
            for place, one in series.items()
        ]
        for name, by_series in made.items()
    }


def histogram(catalogue: Catalogue, name: str) -> CiHistogram[Any]:
    metric = catalogue.get(name)
    assert isinstance(metric, CiHistogram)
    return metric


def done(job_id: int = 1, **fields: Any) -> builders.Payload:
    """Return a job that waited 3 s and ran 20 s, and has just ended."""
    times = {"created": JUST_NOW - 23, "started": JUST_NOW - 20, "completed": JUST_NOW, "runner": 5}
    return builders.job(job_id, run_id=7, status="completed", **({"conclusion": "success"} | times | fields))


def ended(run_id: int = 7, **fields: Any) -> builders.Payload:
    """Return a run of 40 s that has just ended."""
    times = {"began": JUST_NOW - 40, "updated": JUST_NOW}
    return builders.run(run_id, **({"status": "completed", "conclusion": "success"} | times | fields))


def test_a_job_is_in_the_buckets_of_its_queue_time_and_its_duration_and_a_run_in_that_of_its_duration() -> None:
    assert found(done(), ended()) == {
        "promgithub_job_queue_seconds": [(5, 3, {"job_id": 1, "run_id": 7})],
        "promgithub_job_duration_seconds": [(30, 20, {"job_id": 1, "run_id": 7})],
        "promgithub_workflow_duration_seconds": [(60, 40, {"run_id": 7})],
    }


def test_the_series_are_those_that_counted_the_row() -> None:
    memory = counted(
        done(), ended(event="schedule"), done(2, conclusion="failure", name="lint (3.11)", branch="feature")
    )
    expected = {(metric.name, stored(metric.label_names, labels)) for (metric, labels), _ in memory.tally.observations}
    made = exemplars(snapshot(closed(memory)), CATALOGUE)
    assert {(name, series) for name, by_series in made.items() for series in by_series} == expected
    assert len(expected) == 5


def stored(names: Iterable[str], values: Iterable[str]) -> str:
    return labels_text(named_labels(zip(names, values, strict=True)))


@pytest.mark.parametrize(
    "payloads",
    [
        [done(conclusion="skipped", runner=None, labels=[])],
        [done(conclusion="cancelled", runner=None)],
        [builders.job(status="in_progress", started=JUST_NOW, runner=5)],
        [ended(status="in_progress", conclusion=None)],
        [ended(status="completed", conclusion="action_required")],
        [done(created=JUST_NOW, completed=JUST_NOW - 30)],
        [ended(began=JUST_NOW + 5)],
        [done(labels=[], runner=None, conclusion="success")],
    ],
    ids=["skipped", "cancelled", "running", "running run", "waits for approval", "negative", "negative run", "phantom"],
)
def test_what_is_not_observed_has_no_exemplar(payloads: Sequence[builders.Payload]) -> None:
    assert found(*payloads) == {}


def test_a_job_that_a_rerun_carries_over_has_no_exemplar() -> None:
    once = found(done(1))
    assert found(done(1), done(2, attempt=2)) == once
    assert found(done(1), done(1, attempt=2)) == once


def test_twins_of_a_matrix_are_both_counted_and_the_last_id_is_the_exemplar() -> None:
    twins = found(done(1), done(2))
    assert twins["promgithub_job_duration_seconds"] == [(30, 20, {"job_id": 2, "run_id": 7})]


def test_a_queue_time_that_is_not_settled_yet_has_no_exemplar() -> None:
    assert found(done(gate=JUST_NOW - 22)).keys() == {"promgithub_job_duration_seconds"}


@pytest.mark.parametrize(
    "payloads",
    [
        [done(), done(repo=builders.repository("acme/renamed"))],
        [done(), done(branch="other")],
        [done(), done(conclusion="failure")],
        [ended(), ended(conclusion="failure")],
    ],
)
def test_rows_whose_deliveries_contradict_each_other_have_no_exemplar(payloads: Sequence[builders.Payload]) -> None:
    assert found(*payloads) == {}


def test_a_report_that_contradicts_the_one_that_was_counted_has_no_exemplar() -> None:
    # Of several reports, the row keeps the one with the earliest time, which here has a negative duration.
    assert found(done(), done(completed=JUST_NOW - 30)).keys() == {JOB_QUEUE.name}
    assert found(ended(), ended(updated=JUST_NOW - 50)) == {}


def test_a_row_that_was_not_counted_has_no_exemplar() -> None:
    rows = closed(counted(done(), ended()))
    uncounted = {name: [row._replace(flags=0) for row in same] for name, same in rows.items()}
    assert exemplars(snapshot(uncounted), CATALOGUE) == {}


def test_a_time_that_equals_a_bound_is_in_the_bucket_of_that_bound() -> None:
    shown = found(done(created=JUST_NOW - 35, started=JUST_NOW - 30), ended(began=JUST_NOW - 60))
    assert {name: exemplar[0] for name, (exemplar,) in shown.items()} == {
        JOB_QUEUE.name: 5,
        JOB_DURATION.name: 30,
        WORKFLOW_DURATION.name: 60,
    }


def test_a_row_that_cannot_be_read_has_no_exemplar() -> None:
    memory = counted(done())
    (key,) = memory.rows(JOBS)
    assert exemplars(snapshot({"job": [ClosedRow(key, None, -1, NOW)]}), CATALOGUE) == {}


def test_the_newest_wins_in_each_bucket() -> None:
    jobs = [
        done(1),
        done(2, created=JUST_NOW - 27, started=JUST_NOW - 24, completed=JUST_NOW - 4),
        done(3, created=JUST_NOW - 75, started=JUST_NOW - 70),
    ]
    for order in (jobs, jobs[::-1]):
        assert sorted(found(*order)["promgithub_job_duration_seconds"], key=str) == [
            (120, 70, {"job_id": 3, "run_id": 7}),
            (30, 20, {"job_id": 1, "run_id": 7}),
        ]


def test_of_two_that_end_at_once_the_larger_value_wins_because_prometheus_takes_them_in_this_order() -> None:
    jobs = [done(1, created=JUST_NOW - 28, started=JUST_NOW - 25), done(2)]
    for order in (jobs, jobs[::-1]):
        assert found(*order)["promgithub_job_duration_seconds"] == [(30, 25, {"job_id": 1, "run_id": 7})]


def moment(closed_at: int, now: int = NOW) -> int | None:
    """Return the time of the exemplar of a run that ended at `JUST_NOW` and was closed at `closed_at`."""
    memory = counted(ended())
    made = exemplars(snapshot(closed(memory, closed_at), now), CATALOGUE)
    return only(made[WORKFLOW_DURATION.name]).at if made else None


def only(by_series: SeriesExemplars) -> Exemplar:
    """Return the only exemplar of a histogram."""
    ((exemplar,),) = (buckets.values() for buckets in by_series.values())
    return exemplar


def test_an_exemplar_has_the_time_of_the_end_unless_its_delivery_was_late_or_the_clocks_differ() -> None:
    end = NOW - 10_000
    assert moment(NOW) == end
    assert moment(end) == end
    assert moment(end + MOST_DELAY, NOW + MOST_DELAY) == end
    late = end + MOST_DELAY + 1
    assert moment(late, NOW + MOST_DELAY) == late
    assert moment(end - 1) == end - 1
    memory = counted(done(completed=None))
    assert only(exemplars(snapshot(closed(memory)), CATALOGUE)[JOB_QUEUE.name]).at == NOW


def test_an_exemplar_expires_after_its_own_time_and_is_never_in_the_future() -> None:
    end = NOW - 10_000
    assert moment(NOW, end + WINDOW) == end
    assert moment(NOW, end + WINDOW + 1) is None
    assert moment(end, end - 1) is None


def test_hidden_labels_are_left_out_and_an_exemplar_is_in_the_exposed_bucket() -> None:
    catalogue = CATALOGUE.exposing((), {DURATION_BOUNDS: (1_000, 3_600_000)})
    memory = counted(done())
    ((series, buckets),) = exemplars(snapshot(closed(memory)), catalogue)[JOB_DURATION.name].items()
    assert "job_name" not in series
    assert buckets.keys() == {1}
    (with_name,) = exemplars(snapshot(closed(memory)), CATALOGUE)[JOB_DURATION.name]
    assert '"job_name":"test"' in with_name


def test_a_metric_that_is_not_exposed_has_no_exemplar() -> None:
    assert found(done(), ended(), catalogue=Catalogue()) == {}


def test_the_labels_of_an_exemplar_have_at_most_128_characters() -> None:
    assert sum(len(name) + len(str(2**63 - 1)) for name in LABELS) <= 128


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(-20, 400), st.sampled_from([20, 25])), min_size=1, max_size=12)
)
def test_the_exemplar_of_a_bucket_never_goes_back_in_prometheus_order(drawn: list[tuple[int, int, int]]) -> None:
    rows = []
    for number, (closed_at, delay, ran) in enumerate(drawn, 1):
        end = closed_at - delay
        memory = counted(done(number, created=end - ran - 3, started=end - ran, completed=end))
        rows += closed(memory, int(builders.START.timestamp() + closed_at) * 1000)["job"]
    last = -1, -1
    for second in range(0, 1300, 7):
        now = int(builders.START.timestamp() + second) * 1000
        there = [row for row in rows if row.closed_at <= now]
        made = exemplars(snapshot({"job": there}, now), CATALOGUE)
        if made:
            exemplar = only(made[JOB_DURATION.name])
            assert exemplar[:2] >= last
            last = exemplar[:2]


@given(worlds(), st.randoms())
def test_whatever_arrives_in_whatever_order_an_exemplar_is_an_observation_that_was_counted(
    world: World, chance: random.Random
) -> None:
    memory = Memory()
    deliveries = [*world.deliveries, *world.deliveries[::3]]
    chance.shuffle(deliveries)
    for delivery in deliveries:
        memory.count([delivery])
    memory.settle()
    counts = {without_branch(*series, ms) for (series, ms) in memory.tally.observations}
    for subject in TRACKED:
        for row in memory.rows(subject).values():
            if row.known is not None and subject.phase(row.known) is None:
                assert {without_branch(*observed) for observed in subject.observed(row)} <= counts


def without_branch(metric: CiMetric[Any], labels: tuple[str, ...], milliseconds: int) -> tuple[Any, ...]:
    """Return an observation. A job of a fork is counted on its branch until its run is known."""
    named = dict(zip(metric.label_names, labels, strict=True))
    named.pop("branch", None)
    return metric.name, tuple(named.items()), milliseconds


# --- On the page ---


class Page:
    """The families of a snapshot."""

    def __init__(self, taken: Snapshot, catalogue: Catalogue = EXPOSED) -> None:
        self._taken = taken
        self._catalogue = catalogue

    def collect(self) -> Iterable[Metric]:
        return families(self._taken, 10, self._catalogue, lambda where, what: pytest.fail(f"{where}: {what}"))


def changed(row: HistogramRow, *, labels: str | None = None, held: bool = False) -> HistogramRow:
    return row[0] if labels is None else labels, *row[1:4], held


def series_of(memory: Memory) -> dict[str, list[HistogramRow]]:
    """Return the series, as the store has them, without the optional labels."""
    rows: dict[tuple[str, str], list[int]] = {}
    for (metric, labels), milliseconds in memory.tally.observations:
        optional = metric.optional_names
        named = named_labels(pair for pair in zip(metric.label_names, labels, strict=True) if pair[0] not in optional)
        buckets = rows.setdefault((metric.name, labels_text(named)), [0] * (len(STORED_BOUNDS) + 1))
        buckets[sum(bound < milliseconds for bound in STORED_BOUNDS)] += 1
    series: dict[str, list[HistogramRow]] = {}
    for (name, stored_labels), buckets in rows.items():
        series.setdefault(name, []).append((stored_labels, 1, NOW, buckets, False))
    return series


def lines(taken: Snapshot, *, openmetrics: bool = True, to_scraper: bool = False) -> list[str]:
    """Return the lines of a page that have an exemplar."""
    page = exposition.page(Page(taken), openmetrics=openmetrics, to_scraper=to_scraper).decode()
    return [line for line in page.splitlines() if " # " in line and not line.startswith("#")]


def test_a_page_shows_exemplars_as_openmetrics_wants_them() -> None:
    memory = counted(done())
    taken = snapshot(closed(memory), histograms=series_of(memory))
    end = f"{NOW / 1000 - 10:.1f}"
    assert lines(taken) == [
        'promgithub_job_duration_seconds_bucket{branch="main",job_conclusion="success",le="30.0",'
        'repository="acme/gears",workflow_name="build"} 1.0 # {job_id="1",run_id="7"} 20.0 ' + end,
        'promgithub_job_queue_seconds_bucket{le="5.0",repository="acme/gears",'
        'runner_class="ubuntu-latest",runner_group="GitHub Actions",workflow_name="build"} '
        '1.0 # {job_id="1",run_id="7"} 3.0 ' + end,
    ]


def test_the_text_format_has_no_exemplars() -> None:
    memory = counted(done())
    assert lines(snapshot(closed(memory), histograms=series_of(memory)), openmetrics=False) == []


def test_a_held_series_has_exemplars_for_others_but_not_for_scrapers() -> None:
    memory = counted(done(), ended())
    histograms = {name: [changed(row, held=True) for row in series] for name, series in series_of(memory).items()}
    taken = snapshot(closed(memory), histograms=histograms)
    assert len(lines(taken)) == 3
    assert lines(taken, to_scraper=True) == []


def test_a_row_in_the_overflow_series_has_no_exemplar() -> None:
    memory = counted(done(), ended())
    overflow = {name: [changed(row, labels="{}") for row in series] for name, series in series_of(memory).items()}
    assert lines(snapshot(closed(memory), histograms=overflow)) == []


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 40_000), st.integers(0, 400), st.booleans()), max_size=12))
def test_an_exemplar_lies_within_its_bucket_which_has_an_observation(
    drawn: list[tuple[int, int, int, bool]],
) -> None:
    payloads = [
        done(n, created=JUST_NOW - ago - ran - waited, started=JUST_NOW - ago - ran, completed=JUST_NOW - ago)
        for n, (waited, ran, ago, _) in enumerate(drawn, 1)
    ] + [ended(n, began=JUST_NOW - ran, updated=JUST_NOW) for n, (_, ran, _, is_run) in enumerate(drawn, 1) if is_run]
    memory = counted(*payloads)
    page = exposition.page(Page(snapshot(closed(memory), histograms=series_of(memory))), openmetrics=True).decode()
    values = {(metric.name, milliseconds / 1000) for (metric, _), milliseconds in memory.tally.observations}
    for family in text_string_to_metric_families(page):  # type: ignore[no-untyped-call]
        before = 0.0, 0.0
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                assert sample.exemplar is None
                before = 0.0, 0.0
                continue
            le = float(sample.labels["le"])
            if sample.exemplar is not None:
                assert before[0] < sample.exemplar.value <= le or sample.exemplar.value == before[0] == 0
                assert sample.value > before[1]
                assert (family.name, sample.exemplar.value) in values
                assert NOW - WINDOW <= round(float(sample.exemplar.timestamp) * 1000) <= NOW
            before = le, sample.value
