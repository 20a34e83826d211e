"""The simulator's histories are what they say, and its verdicts are right."""

import json
import time
from collections import Counter
from uuid import UUID

import pytest

from promgithub.simulation.errors import SimulationError
from promgithub.simulation.histories import Historian, History
from promgithub.simulation.sending import Tally, arrange
from promgithub.simulation.truth import DURATION_BUCKETS, Figures, Sample, Truth
from promgithub.simulation.verdict import judge, read
from tests import figures

LEADER = "promgithub_exporter_leader 1.0\n"


def payloads(history: History) -> list[tuple[str, dict[str, object]]]:
    return [(delivery.event, json.loads(delivery.body)) for delivery in history.deliveries]


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("count", [1, 2, 23, 24, 70, 71, 150])
def test_a_history_has_exactly_as_many_deliveries_as_asked_for(count: int) -> None:
    for seed in range(20):
        history = Historian(seed).history(count)
        assert len({delivery.id for delivery in history.deliveries}) == len(history.deliveries) == count


def test_the_same_seed_tells_the_same_story_with_the_same_figures() -> None:
    one, same, other = (Historian(seed).history(200) for seed in (7, 7, 8))
    assert [d.event for d in one.deliveries] == [d.event for d in same.deliveries]
    assert one.truth.figures == same.truth.figures != other.truth.figures


def test_two_simulations_of_one_seed_share_no_identifier() -> None:
    one, other = (Historian(7).history(300) for _ in range(2))
    assert not {d.id for d in one.deliveries} & {d.id for d in other.deliveries}
    subjects = [
        {body[event]["id"] for event, body in payloads(history) if event in {"workflow_run", "workflow_job"}}  # type: ignore[index]
        for history in (one, other)
    ]
    assert not subjects[0] & subjects[1]
    assert min(subjects[0] | subjects[1]) > 2**53


def test_deliveries_have_githubs_size_and_a_version_1_guid_in_the_order_of_events() -> None:
    history = Historian(1).history(600)
    assert {delivery.event for delivery in history.deliveries} == {
        "workflow_run",
        "workflow_job",
        "push",
        "pull_request",
    }
    assert all(6_500 < len(delivery.body) < 22_000 for delivery in history.deliveries)
    guids = [UUID(delivery.id) for delivery in history.deliveries]
    assert {guid.version for guid in guids} == {1}
    assert sorted(guids, key=lambda guid: guid.time) == guids


def test_nothing_happens_in_the_future_or_so_long_ago_that_it_would_be_stale() -> None:
    for seed in range(10):
        now = time.time()
        times = [(UUID(d.id).time - 0x01B21DD213814000) / 1e7 for d in Historian(seed, now).history(400).deliveries]
        assert now - 3 * 3600 < min(times) <= max(times) < now + 1


def test_a_history_has_all_that_happens_in_a_ci() -> None:
    history = Historian(1).history(2000)
    known = history.truth.figures
    for subject in ("workflow", "job"):
        for gauge in ("queued", "waiting", "in_progress"):
            assert figures.total(known, f"promgithub_{subject}_{gauge}") > 0
    assert figures.total(known, "promgithub_workflow_reruns_total") > 0
    for conclusion in ("success", "failure", "cancelled", "skipped", "timed_out"):
        assert figures.total(known, "promgithub_job_status_total", job_conclusion=conclusion) > 0
    assert figures.total(known, "promgithub_workflow_status_total", conclusion="action_required") > 0
    assert figures.total(known, "promgithub_pull_request_total", pull_request_status="merged") > 0
    for branch in ("main", "release/1.2", "other"):
        assert figures.total(known, "promgithub_workflow_status_total", branch=branch) > 0
    attempts = {body["workflow_run"]["run_attempt"] for event, body in payloads(history) if event == "workflow_run"}  # type: ignore[index]
    assert attempts == {1, 2, 3}


def test_the_truth_of_a_measurement_is_its_sum_its_count_and_every_bucket_that_it_fits() -> None:
    truth = Truth()
    truth.observe("seconds", {"a": "b"}, 15, DURATION_BUCKETS)
    assert truth.figures[sample("seconds_sum", a="b")] == 15
    assert truth.figures[sample("seconds_count", a="b")] == 1
    fits = {bound for bound in (*DURATION_BUCKETS, "+Inf") if truth.figures[bucket(bound)]}
    assert fits == {*DURATION_BUCKETS[1:], "+Inf"}


def bucket(bound: float | str) -> Sample:
    return sample("seconds_bucket", a="b", le=bound if isinstance(bound, str) else f"{bound}.0")


def test_deliveries_arrive_twice_in_part_and_no_further_from_their_place_than_allowed() -> None:
    deliveries = Historian(3).history(200).deliveries
    order = arrange(deliveries, duplicates=0.2, disorder=0.1, seed=3)
    assert sorted(Counter(delivery.id for delivery in order).values()) == [1] * 160 + [2] * 40
    place = {delivery.id: number for number, delivery in enumerate(deliveries)}
    alone = [place[one.id] for one in arrange(deliveries, duplicates=0, disorder=0.1, seed=3)]
    assert alone != sorted(alone)
    assert max(abs(number - was) for number, was in enumerate(alone)) <= 20
    assert arrange(deliveries, duplicates=0, disorder=0, seed=3) == deliveries


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ({}, {"a": 1.0, "zero": 0.0}, {}),
        ({"a": 5.0, "other": 3.0}, {"a": 6.0, "zero": 0.0, "other": 3.0}, {}),
        ({"a": 5.0}, {"a": 5.0, "zero": 0.0}, {"a": (1.0, 0.0)}),
        ({}, {"a": 1.0}, {"zero": (0.0, None)}),
        ({}, {"zero": 0.0}, {"a": (1.0, None)}),
        ({"other": 3.0}, {"a": 1.0, "zero": 0.0, "other": 4.0}, {"other": (0.0, 1.0)}),
        ({"other": 3.0}, {"a": 1.0, "zero": 0.0}, {"other": (0.0, -3.0)}),
        ({}, {"a": 1.001, "zero": 0.0}, {"a": (1.0, 1.001)}),
    ],
)
def test_a_figure_that_grew_by_anything_but_the_truth_is_found(
    before: dict[str, float], after: dict[str, float], wrong: dict[str, tuple[float, float | None]]
) -> None:
    def named(values: dict[str, float]) -> Figures:
        return {sample(name): value for name, value in values.items()}

    verdict = judge(named({"a": 1.0, "zero": 0.0}), named(before), named(after))
    assert verdict.differences == {sample(name): difference for name, difference in wrong.items()}


def test_pages_are_summed_and_what_is_not_about_ci_is_left_out() -> None:
    page = 'promgithub_push_total{repository="a"} 2.0\npromgithub_event_queue_depth 3.0\n'
    ages = 'promgithub_job_oldest_age_seconds{repository="a",job_status="queued"} 9.0\n'
    reading = read([LEADER + page + ages, page, "promgithub_exporter_leader 0.0\n"])
    assert reading.figures == {sample("promgithub_push_total", repository="a"): 4}
    assert reading.waiting == 3


@pytest.mark.parametrize(
    ("page", "says"), [("promgithub_push_total 2.0\n", "exposes figures"), (LEADER + "promgithub_push {", "format")]
)
def test_pages_without_the_figures_are_refused(page: str, says: str) -> None:
    with pytest.raises(SimulationError, match=says):
        read([page])


def test_latencies_are_summed_up_by_the_answers_within_which_a_share_came() -> None:
    tally = Tally(latencies=[0.4, 0.1, 0.3, 0.2])
    assert (tally.quantile(0.5), tally.quantile(0.99), tally.quantile(0.5, latest=2)) == (0.2, 0.4, 0.2)
    assert Tally().quantile(0.5) == 0
