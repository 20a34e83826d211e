"""The simulator's histories are consistent, and its verdicts are correct."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from ingest.receiver_metrics import ReceiverMetrics, SpoolFigures
from processor.metrics import WorkerMetrics, health_families, held_families, leader_family, queue_families
from processor.recovery.recovery_metrics import RecoveryMetrics
from processor.recovery.runner_lists import RunnerKind
from processor.recovery.runners import runners_family
from promgithub.simulation import stories
from promgithub.simulation.histories import LONGEST_ATTEMPT, REPOSITORIES, Historian, History
from promgithub.simulation.sending import SendingStats, arrange
from promgithub.simulation.stories import POOLS, Life, PlayedAttempt, PlayedJob, PlayedState
from promgithub.simulation.truth import EXPECTED_DURATION_BUCKETS, FORK_WORKFLOW, Figures, Sample, Truth
from promgithub.simulation.verdict import Difference, Reading, is_compared, judge, read
from shared.brokers.interface import Depths, Held
from shared.errors import SimulationError
from tests.support import figures

LEADER = "promgithub_exporter_leader 1.0\n"


def payloads(history: History) -> list[tuple[str, dict[str, Any]]]:
    return [(delivery.event, json.loads(delivery.body)) for delivery in history.deliveries]


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("count", [1, 2, LONGEST_ATTEMPT, LONGEST_ATTEMPT + 1, 3 * LONGEST_ATTEMPT, 150])
def test_a_history_has_exactly_as_many_deliveries_as_asked_for(count: int) -> None:
    for seed in range(20):
        history = Historian(seed).history(count)
        assert len({delivery.id for delivery in history.deliveries}) == len(history.deliveries) == count


def test_the_same_seed_tells_the_same_story_with_the_same_figures() -> None:
    one, same, other = (Historian(seed).history(200) for seed in (7, 7, 8))
    assert [d.event for d in one.deliveries] == [d.event for d in same.deliveries]
    assert one.truth.settled == same.truth.settled != other.truth.settled
    assert one.truth.at_once == same.truth.at_once


def test_two_simulations_of_one_seed_share_no_identifier() -> None:
    one, other = (Historian(7).history(300) for _ in range(2))
    assert not {d.id for d in one.deliveries} & {d.id for d in other.deliveries}
    subjects = [
        {body[event]["id"] for event, body in payloads(history) if event in {"workflow_run", "workflow_job"}}
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
    known = history.truth.settled
    for subject in ("workflow", "job"):
        for gauge in ("queued", "waiting", "in_progress"):
            assert figures.total(known, f"promgithub_{subject}_{gauge}") > 0
    assert figures.total(known, "promgithub_workflow_reruns_total") > 0
    for conclusion in ("success", "failure", "cancelled", "skipped", "timed_out"):
        assert figures.total(known, "promgithub_job_status_total", job_conclusion=conclusion) > 0
    assert figures.total(known, "promgithub_workflow_status_total", conclusion="action_required") > 0
    assert figures.total(known, "promgithub_pull_request_total", pull_request_status="merged") > 0
    for branch in ("main", "release/1.2", "merge_queue", "other"):
        assert figures.total(known, "promgithub_workflow_status_total", branch=branch) > 0
        assert figures.total(known, "promgithub_job_status_total", branch=branch) > 0
    attempts = {body["workflow_run"]["run_attempt"] for event, body in payloads(history) if event == "workflow_run"}
    assert attempts == {1, 2, 3}


ATTEMPT = PlayedAttempt(
    run_id=7,
    number=1,
    began=100,
    fate="ended",
    repo=REPOSITORIES[0],
    head=REPOSITORIES[0],
    branch="main",
    workflow="build",
)
RERUN = replace(ATTEMPT, number=2, began=900)
NAMES = {"repository": "acme/gears", "branch": "main", "workflow_name": "build"}

RAN = (PlayedState("in_progress", 150, on_runner=True), PlayedState("completed", 170, "success", on_runner=True))
GATED = (PlayedState("queued", 103), PlayedState("waiting", 104), PlayedState("queued", 140))


def played(*story: PlayedState, started: int = 150, gated: bool = False) -> PlayedJob:
    return PlayedJob(ATTEMPT, 11, "test", POOLS[0], 5, 103, Life(story, started, 103 if gated else None))


def reckoned(*jobs: PlayedJob) -> Truth:
    truth = Truth()
    for job in jobs:
        job.reckon(truth)
    return truth


def counted(known: Figures) -> dict[str, float]:
    """Return statuses and conclusions, and counts and sums of times, that are not 0."""
    statuses = {
        f"{dict(labels)['job_status']} {dict(labels)['job_conclusion']}".strip(): value
        for (name, labels), value in known.items()
        if name == "promgithub_job_status_total"
    }
    times = {
        f"{time} {part}": figures.total(known, f"promgithub_job_{time}_seconds_{part}")
        for time in ("queue", "duration")
        for part in ("count", "sum")
    }
    return statuses | {what: value for what, value in times.items() if value}


def test_a_job_counts_its_states_once_and_the_times_that_it_queued_and_ran() -> None:
    truth = reckoned(played(PlayedState("queued", 103), *RAN))
    assert counted(truth.at_once) == {
        "queued": 1,
        "in_progress": 1,
        "completed success": 1,
        "queue count": 1,
        "queue sum": 47,
        "duration count": 1,
        "duration sum": 20,
    }
    assert truth.at_once == truth.settled


def test_a_job_with_an_environment_queues_from_its_newest_queued_on_which_counts_after_grace() -> None:
    truth = reckoned(played(*GATED, *RAN, gated=True))
    at_once = {
        "queued": 1,
        "waiting": 1,
        "in_progress": 1,
        "completed success": 1,
        "duration count": 1,
        "duration sum": 20,
    }
    assert counted(truth.at_once) == at_once
    assert counted(truth.settled) == at_once | {"queue count": 1, "queue sum": 10}
    labels = {"repository": "acme/gears", "workflow_name": "build", "runner_group": "GitHub Actions"}
    labels |= {"runner_class": "ubuntu-latest"}
    assert truth.settled[sample("promgithub_job_queue_seconds_bucket", **labels, le="5.0")] == 0
    assert truth.settled[sample("promgithub_job_queue_seconds_bucket", **labels, le="10.0")] == 1


def test_a_job_whose_deployment_is_rejected_neither_queued_nor_ran() -> None:
    truth = reckoned(played(*GATED[:2], PlayedState("completed", 140, "failure"), gated=True))
    assert counted(truth.settled) == {"queued": 1, "waiting": 1, "completed failure": 1}


def test_a_job_with_an_environment_that_waits_is_in_its_gauge() -> None:
    truth = reckoned(played(*GATED[:2], gated=True), played(*GATED, gated=True))
    labels = NAMES | {"runner_class": "ubuntu-latest"}
    gauges = {gauge: truth.at_once[sample(f"promgithub_job_{gauge}", **labels)] for gauge in ("queued", "waiting")}
    assert gauges == {"queued": 1, "waiting": 1}
    assert truth.at_once == truth.settled


def test_twins_both_count() -> None:
    job = played(PlayedState("queued", 103), *RAN)
    twin = job.twin(12)
    assert job.payload(job.last)["workflow_job"].items() ^ twin.payload(twin.last)["workflow_job"].items() >= {
        ("id", 11),
        ("id", 12),
        ("runner_id", 5),
        ("runner_id", 6),
    }
    assert counted(reckoned(job, twin).settled) == {
        "queued": 2,
        "in_progress": 2,
        "completed success": 2,
        "queue count": 2,
        "queue sum": 94,
        "duration count": 2,
        "duration sum": 40,
    }


@pytest.mark.parametrize(
    ("number", "created", "differ"), [(11, 103, set()), (12, 103, {"id"}), (12, 903, {"id", "created_at"})]
)
def test_a_job_that_is_carried_over_is_reported_completed_as_it_was_but_for_attempt_id_and_creation(
    number: int, created: int, differ: set[str]
) -> None:
    job = played(*GATED, *RAN, gated=True)
    carried = job.carried_over(RERUN, number, created)
    assert carried.life.story == (job.last,)
    was, now = (one.payload(one.last) for one in (job, carried))
    assert was["deployment"] == now["deployment"]
    places = {"url", "html_url", "check_run_url", "run_url"}
    changed = {name for name, value in was["workflow_job"].items() if now["workflow_job"][name] != value}
    assert changed - places == differ | {"run_attempt"}
    assert now["workflow_job"]["status"] == "completed"


def test_a_phantom_has_nothing_of_a_job_and_counts_as_an_anomaly_after_grace() -> None:
    payload = stories.phantom(ATTEMPT, 12, 105, "action_required")
    job = payload["workflow_job"]
    assert (job["status"], job["conclusion"], job["labels"], job["steps"]) == ("completed", "action_required", [], [])
    assert {job[f"runner_{part}"] for part in ("id", "name", "group_id", "group_name")} == {None}
    assert "deployment" not in payload
    truth = Truth()
    stories.reckon_phantom(truth)
    assert (truth.at_once, truth.settled) == ({}, {sample("promgithub_anomaly_total", kind="phantom_job"): 1})


def test_a_report_under_a_new_id_counts_as_carried_over_once_settled_and_as_nothing_else() -> None:
    truth = Truth()
    stories.reckon_carried_over(truth)
    assert truth.at_once == {}
    assert truth.settled == {sample("promgithub_anomaly_total", kind="carried_over_job"): 1}


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


class Audit:
    """What payloads say about jobs, found out without what the simulator knows of them."""

    def __init__(self, history: History) -> None:
        self.jobs: dict[int, list[dict[str, Any]]] = {}
        self.phantoms: list[str] = []
        self.deployments: dict[int, list[tuple[str, int | None]]] = {}
        for event, body in payloads(history):
            if event == "workflow_job":
                self._hear(body)
        firsts: dict[object, int] = {}
        self.kept_ids = {number for number, told in self.jobs.items() if len({one["run_attempt"] for one in told}) > 1}
        self.carried: dict[int, int] = {}
        for number, told in self.jobs.items():
            last = told[-1]
            if last["runner_id"] is not None:
                execution = (last["run_id"], last["name"], last["runner_id"], last["started_at"], last["completed_at"])
                first = firsts.setdefault(execution, number)
                if first != number:
                    self.carried[number] = first

    def _hear(self, body: Mapping[str, Any]) -> None:
        job = body["workflow_job"]
        if not job["labels"] and job["conclusion"] != "skipped":
            self.phantoms.append(job["conclusion"])
            return
        self.jobs.setdefault(job["id"], []).append(job)
        updated = seconds(body["deployment"]["updated_at"]) if "deployment" in body else None
        self.deployments.setdefault(job["id"], []).append((job["status"], updated))

    def counting(self) -> Iterable[tuple[int, list[dict[str, Any]]]]:
        """Yield each job that is counted, with the payloads about it from its own attempt."""
        for number, told in self.jobs.items():
            if number not in self.carried:
                yield number, [one for one in told if one["run_attempt"] == told[0]["run_attempt"]]

    def queue_time(self, number: int, ran: Mapping[str, Any]) -> int:
        queued = [at for status, at in self.deployments[number] if status == "queued" and at is not None]
        return seconds(ran["started_at"]) - max(queued, default=seconds(ran["created_at"]))


def test_the_truth_about_jobs_is_what_their_payloads_say() -> None:
    for seed in range(3):
        history = Historian(seed).history(3000)
        audit, settled = Audit(history), history.truth.settled
        statuses, queued, ran = Counter[tuple[str, str]](), list[int](), list[int]()
        for number, told in audit.counting():
            statuses.update({(one["status"], one["conclusion"] or "") for one in told})
            if told[-1]["runner_id"] is not None:
                queued.append(audit.queue_time(number, told[-1]))
                if told[-1]["completed_at"]:
                    ran.append(seconds(told[-1]["completed_at"]) - seconds(told[-1]["started_at"]))
        for (status, conclusion), count in statuses.items():
            labels = {"job_status": status, "job_conclusion": conclusion}
            assert figures.total(settled, "promgithub_job_status_total", **labels) == count
        for metric, measured in (("queue", queued), ("duration", ran)):
            assert min(measured) >= 0
            assert figures.total(settled, f"promgithub_job_{metric}_seconds_count") == len(measured)
            assert figures.total(settled, f"promgithub_job_{metric}_seconds_sum") == sum(measured)
        for kind, many in (("phantom_job", audit.phantoms), ("carried_over_job", audit.carried)):
            assert figures.total(settled, "promgithub_anomaly_total", kind=kind) == len(many)
        assert figures.total(settled, "promgithub_anomaly_total") == len(audit.phantoms) + len(audit.carried)


def test_a_history_has_every_story_that_is_easily_counted_wrongly() -> None:
    audit = Audit(Historian(1).history(2000))
    assert set(audit.phantoms) == {"success", "action_required"}
    assert audit.kept_ids
    pairs = [(audit.jobs[new][0], audit.jobs[old][-1]) for new, old in audit.carried.items()]
    assert {new["created_at"] == old["created_at"] for new, old in pairs} == {True, False}
    assert all(new["created_at"] == old["created_at"] or new["created_at"] > new["started_at"] for new, old in pairs)
    assert {new["run_attempt"] for new, _ in pairs} == {2, 3}
    twins = Counter(
        tuple(audit.jobs[new][0][part] for part in ("run_id", "run_attempt", "name", "started_at", "completed_at"))
        for new in audit.carried
    )
    assert max(twins.values()) == 2, "carried over together"
    gated = {number: told for number, told in audit.deployments.items() if told[0][1] is not None}
    assert gated.keys() & audit.carried.keys()
    stories_of_gated = {tuple(status for status, _ in told) for told in gated.values()}
    waits = ("queued", "waiting", "queued")
    assert {
        *(waits[:2], waits, (*waits, "in_progress"), (*waits, "in_progress", "completed")),
        *((*waits[:2], "completed"), (*waits, "completed")),
    } <= stories_of_gated


def test_pushes_to_a_merge_queue_are_in_the_truth_as_ignored_only() -> None:
    history = Historian(1).history(2000)
    pushes = [body for event, body in payloads(history) if event == "push"]
    counting = [body for body in pushes if not body["ref"].startswith("refs/heads/gh-readonly-queue/")]
    settled, ignored = history.truth.settled, len(pushes) - len(counting)
    assert ignored > 0
    assert figures.total(settled, "promgithub_push_ignored_total", reason="merge_queue") == ignored
    assert figures.total(settled, "promgithub_push_total") == len(counting)
    assert figures.total(settled, "promgithub_commit_pushed_total") == sum(len(body["commits"]) for body in counting)


def test_the_deployment_is_in_all_payloads_of_a_job_and_never_older_than_its_last_queued() -> None:
    audit = Audit(Historian(2).history(2000))
    for told in audit.deployments.values():
        updated = [at for _, at in told]
        assert None not in updated or set(updated) == {None}
        assert updated == sorted(updated, key=lambda at: at or 0)
    assert any(told[0][1] is None for told in audit.deployments.values())


def test_only_the_branch_main_of_forks_has_the_workflow_whose_jobs_are_compared_without_branch() -> None:
    of_runs = [body for event, body in payloads(Historian(1).history(3000)) if event == "workflow_run"]
    seen = {
        (body["workflow"]["name"] == FORK_WORKFLOW, run["head_repository"]["fork"], run["head_branch"] == "main")
        for body in of_runs
        for run in (body["workflow_run"],)
    }
    assert (True, True, True) in seen
    assert {(foreign, main) for own, foreign, main in seen if own} == {(True, True)}
    assert {(foreign, main) for own, foreign, main in seen if not own} == {(False, True), (False, False), (True, False)}


def test_the_truth_of_a_measurement_is_its_sum_its_count_and_every_bucket_that_it_fits() -> None:
    truth = Truth()
    truth.observe("seconds", {"a": "b"}, 15, EXPECTED_DURATION_BUCKETS)
    assert truth.at_once[sample("seconds_sum", a="b")] == 15
    assert truth.at_once[sample("seconds_count", a="b")] == 1
    fits = {bound for bound in (*EXPECTED_DURATION_BUCKETS, "+Inf") if truth.at_once[bucket(bound)]}
    assert fits == {*EXPECTED_DURATION_BUCKETS[1:], "+Inf"}


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
    second = {one.id: number for number, one in enumerate(arrange(deliveries, duplicates=1, disorder=0, seed=3))}
    assert all(place[delivery] <= number for delivery, number in second.items()), "redelivered before it happened"
    assert arrange(deliveries, duplicates=0, disorder=0, seed=3) == deliveries


def named(values: Mapping[str, float]) -> Figures:
    return {sample(name): value for name, value in values.items()}


def truth_of(at_once: Mapping[str, float], after_grace: Mapping[str, float] | None = None) -> Truth:
    truth = Truth()
    for name, value in at_once.items():
        truth.add(name, {}, value)
    for name, value in (after_grace or {}).items():
        truth.add(name, {}, value, after_grace=True)
    return truth


def reading(values: Mapping[str, float], unsettled: float = 0) -> Reading:
    return Reading(named(values), unsettled=unsettled)


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ({}, {"a": 1.0, "zero": 0.0}, {}),
        ({"a": 5.0, "other": 3.0}, {"a": 6.0, "zero": 0.0, "other": 3.0}, {}),
        ({"a": 5.0}, {"a": 5.0, "zero": 0.0}, {"a": Difference(1, 1, 0)}),
        ({}, {"a": 1.0}, {"zero": Difference(0, 0, None)}),
        ({}, {"zero": 0.0}, {"a": Difference(1, 1, None)}),
        ({"other": 3.0}, {"a": 1.0, "zero": 0.0, "other": 4.0}, {"other": Difference(0, 0, 1)}),
        ({"other": 3.0}, {"a": 1.0, "zero": 0.0}, {"other": Difference(0, 0, -3)}),
        ({}, {"a": 1.001, "zero": 0.0}, {"a": Difference(1, 1, 1.001)}),
        ({}, {"a": 1.0, "zero": 0.0, "new": 0.0}, {"new": Difference(0, 0, 0, known=False)}),
        ({}, {"a": 1.0, "zero": 0.0, "new": 2.0}, {"new": Difference(0, 0, 2, known=False)}),
    ],
)
def test_a_figure_that_grew_by_anything_but_the_truth_is_found(
    before: dict[str, float], after: dict[str, float], wrong: dict[str, Difference]
) -> None:
    verdict = judge(truth_of({"a": 1.0, "zero": 0.0}), reading(before), reading(after))
    assert verdict.differences == {sample(name): difference for name, difference in wrong.items()}


@pytest.mark.parametrize(
    ("after", "unsettled", "wrong"),
    [
        ({"a": 3.0, "b": 2.0}, 0, {}),
        ({"a": 3.0, "b": 2.0}, 1, {}),
        ({"a": 1.0}, 1, {}),
        ({"a": 2.0, "b": 1.0}, 1, {}),
        ({"a": 1.0}, 0, {"a": Difference(3, 3, 1), "b": Difference(2, 2, None)}),
        ({"a": 0.0}, 1, {"a": Difference(1, 3, 0)}),
        ({"a": 4.0, "b": 3.0}, 1, {"a": Difference(1, 3, 4), "b": Difference(0, 2, 3)}),
        ({"a": 1.0, "c": 1.0}, 1, {"c": Difference(0, 0, 1, known=False)}),
        ({}, 1, {"a": Difference(1, 3, None)}),
    ],
)
def test_figures_lie_between_both_truths_while_something_is_unsettled_and_equal_the_settled_one_then(
    after: dict[str, float], unsettled: float, wrong: dict[str, Difference]
) -> None:
    truth = truth_of({"a": 1.0}, after_grace={"a": 2.0, "b": 2.0})
    verdict = judge(truth, reading({}), reading(after, unsettled))
    assert verdict.differences == {sample(name): difference for name, difference in wrong.items()}
    assert verdict.unsettled == unsettled


def test_who_demands_the_settled_truth_accepts_neither_less_nor_anything_unsettled() -> None:
    truth = truth_of({"a": 1.0}, after_grace={"a": 2.0})
    assert not judge(truth, reading({}), reading({"a": 3.0}), settled=True).differences
    verdict = judge(truth, reading({}), reading({"a": 1.0}, 2), settled=True)
    assert verdict.differences == {
        sample("a"): Difference(3, 3, 1),
        sample("promgithub_unsettled"): Difference(0, 0, 2),
    }


def test_what_was_unsettled_before_may_settle_meanwhile() -> None:
    queue, anomalies = "promgithub_job_queue_seconds", "promgithub_anomaly_total"
    truth = truth_of({f"{queue}_count": 1.0, f"{queue}_sum": 5.0, "promgithub_push_total": 1.0})
    fresh = {f"{queue}_count": 1.0, f"{queue}_sum": 5.0, "promgithub_push_total": 1.0}
    late = {f"{queue}_count": 3.0, f"{queue}_sum": 500.0, anomalies: 2.0, "promgithub_push_total": 1.0}
    assert not judge(truth, reading({}, 2), reading(fresh)).differences
    assert not judge(truth, reading({}, 2), reading(late)).differences
    assert judge(truth, reading({}, 1), reading(late)).differences == {
        sample(f"{queue}_count"): Difference(1, 2, 3),
        sample(anomalies): Difference(0, 1, 2),
    }
    assert judge(truth, reading({}, 2), reading(late | {"promgithub_push_total": 2.0})).differences == {
        sample("promgithub_push_total"): Difference(1, 1, 2)
    }


@pytest.mark.parametrize(
    ("difference", "expected", "says"),
    [
        (Difference(1, 3, 4), 3, "must be 1 to 3, is 4"),
        (Difference(1, 3, 0), 1, "must be 1 to 3, is 0"),
        (Difference(1, 1, None), 1, "must be 1, is not shown"),
        (Difference(0, 0, 2, known=False), 0, "must not appear, is 2"),
        (Difference(5, math.inf, 4), 5, "must be 5 to inf, is 4"),
    ],
)
def test_a_difference_says_what_must_be_and_what_is(difference: Difference, expected: float, says: str) -> None:
    assert (difference.expected, str(difference)) == (expected, says)


def test_pages_are_summed_and_what_is_not_about_ci_is_left_out() -> None:
    page = 'promgithub_push_total{repository="a"} 2.0\npromgithub_event_queue_depth 3.0\npython_info 1.0\n'
    page += 'promgithub_unsettled{kind="phantom_job"} 1.0\npromgithub_unsettled{kind="queue_time"} 4.0\n'
    page += 'promgithub_brand_new{repository="a"} 1.0\npromgithub_push_created{repository="a"} 1.7e9\n'
    ages = 'promgithub_job_oldest_age_seconds{repository="a",job_status="queued"} 9.0\n'
    found = read([LEADER + page + ages, page, "promgithub_exporter_leader 0.0\n"])
    assert found.figures == {
        sample("promgithub_push_total", repository="a"): 4,
        sample("promgithub_brand_new", repository="a"): 2,
    }
    assert (found.waiting, found.unsettled) == (3, 10)


def test_jobs_of_a_fork_s_main_are_compared_with_the_branch_summed_away() -> None:
    def line(metric: str, workflow: str, branch: str) -> str:
        return f'promgithub_{metric}{{branch="{branch}",workflow_name="{workflow}"}} 1.0\n'

    page = "".join(
        line(metric, workflow, branch)
        for metric in ("job_queued", "workflow_queued")
        for workflow in (FORK_WORKFLOW, "build")
        for branch in ("main", "other")
    )
    assert read([LEADER + page]).figures == {
        sample("promgithub_job_queued", workflow_name=FORK_WORKFLOW): 2,
        **{
            sample(f"promgithub_{metric}", workflow_name=workflow, branch=branch): 1
            for metric, workflow in (
                ("job_queued", "build"),
                ("workflow_queued", FORK_WORKFLOW),
                ("workflow_queued", "build"),
            )
            for branch in ("main", "other")
        },
    }


def test_every_family_of_a_process_itself_is_left_out() -> None:
    receiver, worker = ReceiverMetrics(lambda: True, lambda: 0, SpoolFigures), WorkerMetrics()
    RecoveryMetrics(worker.registry)
    families = [
        *receiver.registry.collect(),
        *worker.registry.collect(),
        *held_families(Held(1, 2), 3),
        *queue_families(Depths(1, 2, 3)),
        *health_families(broker_up=True, database_up=True),
        leader_family(exposes=True),
        runners_family({RunnerKind("gpu", "Default"): {"busy": 1, "idle": 2, "offline": 3}}),
    ]
    assert [family.name for family in families if is_compared(family.name)] == []


@pytest.mark.parametrize(
    ("page", "says"), [("promgithub_push_total 2.0\n", "exposes metrics"), (LEADER + "promgithub_push {", "format")]
)
def test_pages_without_the_figures_are_refused(page: str, says: str) -> None:
    with pytest.raises(SimulationError, match=says):
        read([page])


def test_latencies_are_summed_up_by_the_answers_within_which_a_share_came() -> None:
    tally = SendingStats(latencies=[0.4, 0.1, 0.3, 0.2])
    assert (tally.quantile(0.5), tally.quantile(0.99), tally.quantile(0.5, latest=2)) == (0.2, 0.4, 0.2)
    assert SendingStats().quantile(0.5) == 0
