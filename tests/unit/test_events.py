"""The known quirks of GitHub's payloads, which cause wrong metrics in other exporters."""

from collections.abc import Iterable
from itertools import permutations

import pytest

from processor.counting.ci_metrics import Tally
from processor.counting.events import Policy, interpret
from processor.counting.jobs import JOBS
from processor.counting.label_values import BranchPolicy
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runs import RUNS
from processor.counting.states import Phase
from shared.delivery import Delivery
from shared.errors import PoisonError
from tests.support import builders
from tests.support.builders import FORK, MERGE_QUEUE_BRANCH, Payload
from tests.support.memory import HOME, POLICY, Memory

NAMES = ("acme/gears", "main", "build")


def deliveries(payloads: Iterable[Payload]) -> list[Delivery]:
    """Return deliveries, emitted one second after another in the order of the list."""
    return [builders.delivery(p, builders.guid(i, serial=i)) for i, p in enumerate(payloads)]


def memory_of(payloads: Iterable[Payload]) -> Memory:
    memory = Memory()
    memory.count(deliveries(payloads))
    return memory


def counted(payloads: Iterable[Payload]) -> Tally:
    """Return what is counted at once."""
    return memory_of(payloads).tally


def settled(payloads: Iterable[Payload]) -> Tally:
    """Return what is counted once there was no more news."""
    memory = memory_of(payloads)
    memory.settle()
    return memory.tally


def job_phase(payloads: Iterable[Payload]) -> Phase | None:
    (known,) = memory_of(payloads).known(JOBS).values()
    return JOBS.phase(known)


def run_phase(payloads: Iterable[Payload]) -> Phase | None:
    (known,) = memory_of(payloads).known(RUNS).values()
    return RUNS.phase(known)


def statuses(tally: Tally, metric: str = "promgithub_job_status") -> dict[tuple[str, str], int]:
    return {labels[3:5]: n for (m, labels), n in tally.counts.items() if m.name == metric}  # type: ignore[misc]


def observed(tally: Tally, metric: str) -> list[int]:
    return sorted(ms for ((m, _), ms), n in tally.observations.items() if m.name == metric for _ in range(n))


def anomalies(tally: Tally) -> dict[str, int]:
    return {labels[0]: n for (m, labels), n in tally.counts.items() if m.name == "promgithub_anomaly"}


def by_name(tally: Tally) -> dict[tuple[str, tuple[str, ...]], int]:
    """Return counters without their optional labels, which are the last ones."""
    return {
        (m.name, tuple(labels)[: len(labels) - len(m.optional_names)]): n for (m, labels), n in tally.counts.items()
    }


def branches(tally: Tally) -> set[str]:
    """Return the branches of all counters that have this label."""
    return {labels[m.label_names.index("branch")] for m, labels in tally.counts if "branch" in m.label_names}


QUEUED = builders.job(status="queued")
RUNNING = builders.job(status="in_progress", started=7, runner=5)
SUCCEEDED = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)


def test_started_at_of_a_queued_job_is_a_placeholder_and_not_observed() -> None:
    queued_with_runner = builders.job(status="queued", runner=5)
    assert not counted([queued_with_runner]).observations


def test_queue_time_is_observed_once_when_a_runner_takes_the_job() -> None:
    for order in permutations([QUEUED, RUNNING, SUCCEEDED]):
        assert observed(counted(order), "promgithub_job_queue_seconds") == [7000]


def test_a_started_at_that_was_never_rewritten_gives_a_queue_time_of_zero() -> None:
    unchanged = builders.job(status="in_progress", runner=5)
    tally = counted([QUEUED, unchanged])
    assert observed(tally, "promgithub_job_queue_seconds") == [0]
    assert not anomalies(tally)


@pytest.mark.parametrize("absent", [{"runner_id": None, "runner_name": None}, {"runner_id": 0, "runner_name": ""}])
def test_runner_zero_or_empty_is_no_runner(absent: Payload) -> None:
    job = builders.job(status="completed", conclusion="cancelled", started=3, completed=3, **absent)
    assert not counted([job]).observations


@pytest.mark.parametrize("conclusion", ["skipped", "cancelled"])
def test_a_job_that_never_ran_has_no_duration_however_negative(conclusion: str) -> None:
    job = builders.job(status="completed", conclusion=conclusion, created=0, started=1_906_073, completed=0)
    tally = counted([job])
    assert statuses(tally) == {("completed", conclusion): 1}
    assert not tally.observations
    assert not anomalies(tally)


def test_a_job_that_ran_for_a_negative_time_is_an_anomaly_and_not_observed() -> None:
    job = builders.job(status="completed", conclusion="failure", started=7, completed=5, runner=5)
    assert not anomalies(counted([job]))
    tally = settled([job])
    assert observed(tally, "promgithub_job_duration_seconds") == []
    assert anomalies(tally) == {"negative_job_duration": 1}


def test_a_job_that_started_before_it_was_created_is_an_anomaly_and_not_observed() -> None:
    tally = settled([builders.job(status="in_progress", created=5, started=3, runner=5)])
    assert observed(tally, "promgithub_job_queue_seconds") == []
    assert anomalies(tally) == {"negative_queue_time": 1}


def test_a_skipped_job_that_was_never_queued_counts_as_a_job() -> None:
    # As GitHub sends it: no labels, no runner, no steps, just like a check run in disguise.
    skipped = builders.job(status="completed", conclusion="skipped", completed=0, labels=[])
    tally = counted([skipped])
    assert statuses(tally) == {("completed", "skipped"): 1}
    assert not anomalies(tally)


def test_a_job_cancelled_while_queued_leaves_the_gauge() -> None:
    cancelled = builders.job(status="completed", conclusion="cancelled", started=4, completed=4)
    for order in permutations([QUEUED, cancelled]):
        assert job_phase(order) is None


def test_a_check_run_reported_as_a_job_is_an_anomaly_and_not_a_job() -> None:
    disguised = builders.job(status="completed", conclusion="success", completed=9, labels=[])
    assert not anomalies(counted([disguised]))
    tally = settled([disguised])
    assert statuses(tally) == {}
    assert anomalies(tally) == {"phantom_job": 1}


def test_an_empty_completed_is_a_job_after_all_if_it_was_ever_queued() -> None:
    completed = builders.job(status="completed", conclusion="cancelled", completed=9, labels=[])
    for order in permutations([QUEUED, completed]):
        tally = counted(order)
        assert statuses(tally) == {("queued", ""): 1, ("completed", "cancelled"): 1}
        assert not anomalies(tally)


def test_a_completed_job_reported_again_under_its_own_id_counts_once() -> None:
    again = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5, attempt=2)
    for order in permutations([QUEUED, RUNNING, SUCCEEDED, again]):
        tally = counted(order)
        assert statuses(tally)["completed", "success"] == 1
        assert observed(tally, "promgithub_job_duration_seconds") == [60_000]


def test_a_completed_job_carried_over_into_a_rerun_under_a_new_id_counts_once() -> None:
    carried = builders.job(999, status="completed", conclusion="success", started=7, completed=67, runner=5, attempt=2)
    for order in permutations([QUEUED, SUCCEEDED, carried]):
        tally = settled(order)
        assert statuses(tally) == {("queued", ""): 1, ("completed", "success"): 1}
        assert observed(tally, "promgithub_job_duration_seconds") == [60_000]
        assert observed(tally, "promgithub_job_queue_seconds") == [7000]
        assert anomalies(tally) == {"carried_over_job": 1}


def test_a_job_that_a_rerun_does_run_again_counts_again() -> None:
    again = builders.job(
        999, status="completed", conclusion="success", created=100, started=107, completed=160, runner=6, attempt=2
    )
    assert statuses(counted([SUCCEEDED, again])) == {("completed", "success"): 2}


def test_jobs_of_one_name_and_time_in_one_attempt_are_different_jobs() -> None:
    twin = builders.job(290, status="completed", conclusion="success", started=7, completed=67, runner=6)
    assert statuses(counted([SUCCEEDED, twin])) == {("completed", "success"): 2}


def test_a_report_without_times_does_not_count_again_what_another_report_counted_for_a_twin() -> None:
    twins = [
        builders.job(job_id, status="completed", conclusion="success", started=7, completed=67, attempt=attempt)
        for job_id in (289, 290)
        for attempt in (1, 2)
    ]
    without_times = builders.job(290, status="completed", conclusion="success")
    without_times["workflow_job"] |= {"started_at": None, "completed_at": None}
    for order in permutations(deliveries([*twins, without_times])):
        memory = Memory()
        for delivery in order:
            memory.count([delivery])
        memory.settle()
        assert statuses(memory.tally) == {("completed", "success"): 2}


@pytest.mark.parametrize("last", ["queued", "waiting"])
def test_of_queued_and_waiting_the_newer_deployment_time_wins_in_any_order(last: str) -> None:
    first = "waiting" if last == "queued" else "queued"
    gated = [
        builders.job(status="queued", gate=0),
        builders.job(status=first, gate=2),
        builders.job(status=last, action="queued", gate=5),
    ]
    for order in permutations(gated):
        assert job_phase(order) == Phase(last)


def test_of_queued_and_waiting_at_the_same_second_the_delivery_id_decides() -> None:
    told = [("queued", 0), ("waiting", 1), ("queued", 2)]
    sent = [builders.delivery(builders.job(status=s), builders.guid(t)) for s, t in told]
    for order in permutations(sent):
        memory = Memory()
        memory.count(order)
        (known,) = memory.known(JOBS).values()
        assert JOBS.phase(known) == Phase.QUEUED


def test_a_late_waiting_does_not_beat_in_progress() -> None:
    late = builders.job(status="waiting", gate=500)
    assert job_phase([QUEUED, RUNNING, late]) == Phase.IN_PROGRESS


@pytest.mark.parametrize(
    ("action", "status", "conclusion", "expected"),
    [
        ("requested", "queued", None, Phase.QUEUED),
        ("requested", "requested", None, Phase.QUEUED),
        ("requested", "pending", None, Phase.WAITING),
        ("requested", "waiting", None, Phase.WAITING),
        ("requested", "completed", "action_required", Phase.WAITING),
        ("requested", "brand_new_status", None, Phase.WAITING),
        ("in_progress", "queued", None, Phase.QUEUED),
        ("in_progress", "in_progress", None, Phase.IN_PROGRESS),
        ("completed", "completed", "success", None),
        ("completed", "completed", "startup_failure", None),
        ("completed", "completed", None, None),
    ],
)
def test_a_runs_state_comes_from_status_and_conclusion_never_from_the_action(
    action: str, status: str, conclusion: str | None, expected: Phase | None
) -> None:
    assert run_phase([builders.run(action=action, status=status, conclusion=conclusion)]) == expected


def test_a_run_whose_approval_was_awaited_goes_on() -> None:
    asked = builders.run(status="completed", conclusion="action_required", action="requested")
    started = builders.run(status="in_progress", updated=60)
    ended = builders.run(status="completed", conclusion="success", updated=90)
    for order in permutations([asked, started, ended]):
        tally = counted(order)
        assert run_phase(order) is None
        assert statuses(tally, "promgithub_workflow_status") == {
            ("completed", "action_required"): 1,
            ("in_progress", ""): 1,
            ("completed", "success"): 1,
        }
        assert observed(tally, "promgithub_workflow_duration_seconds") == [90_000]


def test_a_rerun_is_a_new_attempt_measured_from_its_own_start() -> None:
    first = builders.run(status="completed", conclusion="failure", updated=60)
    again = builders.run(attempt=2, status="in_progress", began=86_400, updated=86_400)
    ended = builders.run(attempt=2, status="completed", conclusion="success", began=86_400, updated=86_430)
    for order in permutations([first, again, ended]):
        tally = counted(order)
        assert observed(tally, "promgithub_workflow_duration_seconds") == [30_000, 60_000]
        assert by_name(tally)["promgithub_workflow_reruns", NAMES] == 1


def test_a_completed_job_without_in_progress_is_measured_all_the_same() -> None:
    tally = counted([SUCCEEDED])
    assert statuses(tally) == {("completed", "success"): 1}
    assert observed(tally, "promgithub_job_queue_seconds") == [7000]
    assert observed(tally, "promgithub_job_duration_seconds") == [60_000]


def test_a_status_that_arrives_late_still_counts_as_seen() -> None:
    assert statuses(counted([SUCCEEDED, QUEUED])) == {("completed", "success"): 1, ("queued", ""): 1}


def test_labels_missing_at_first_are_filled_in_by_a_later_delivery() -> None:
    bare = builders.job(status="in_progress", started=7, runner=5, branch=None, workflow=None)
    for order in permutations([bare, SUCCEEDED]):
        tally = counted(order)
        assert {labels[:3] for (name, labels) in by_name(tally) if name == "promgithub_job_status"} == {NAMES}


def test_a_repository_renamed_in_between_counts_under_the_name_known_at_that_moment_and_says_so_once() -> None:
    renamed = builders.job(
        status="completed",
        conclusion="success",
        started=7,
        completed=67,
        runner=5,
        repo=builders.repository("acme/cogs"),
    )
    memory = Memory()
    before, after, again = deliveries([RUNNING, renamed, renamed])
    memory.count([before])
    memory.count([after])
    memory.count([again])
    counts = by_name(memory.tally)
    assert counts["promgithub_job_status", (*NAMES, "in_progress", "")] == 1
    assert counts["promgithub_job_status", ("acme/cogs", "main", "build", "completed", "success")] == 1
    assert anomalies(memory.tally) == {"renamed_repository": 1}
    (known,) = memory.known(JOBS).values()
    assert JOBS.labels(known).repository == "acme/cogs"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"branch": "release/2"}, "changed_branch"),
        ({"conclusion": "failure"}, "changed_conclusion"),
        ({"repo": builders.repository("acme/cogs")}, "renamed_repository"),
    ],
)
def test_deliveries_that_contradict_each_other_are_one_anomaly_and_one_end(change: Payload, kind: str) -> None:
    ended: Payload = {"status": "completed", "conclusion": "success", "started": 7, "completed": 67, "runner": 5}
    for order in permutations([SUCCEEDED, builders.job(**(ended | change)), RUNNING]):
        memory = Memory()
        for delivery in deliveries(order):
            memory.count([delivery])
        assert anomalies(memory.tally) == {kind: 1}
        assert sum(n for (status, _), n in statuses(memory.tally).items() if status == "completed") == 1
        assert observed(memory.tally, "promgithub_job_duration_seconds") == [60_000]


def test_a_branch_that_was_missing_at_first_takes_no_count_back() -> None:
    bare, whole = deliveries([builders.job(branch=None), SUCCEEDED])
    memory = Memory()
    memory.count([bare])
    memory.count([whole])
    counts = by_name(memory.tally)
    assert counts["promgithub_job_status", ("acme/gears", "other", "build", "queued", "")] == 1
    assert counts["promgithub_job_status", (*NAMES, "completed", "success")] == 1
    assert not anomalies(memory.tally)


def test_a_cancelled_job_whose_end_comes_before_its_beginning_was_never_a_phantom() -> None:
    ended = builders.job(status="completed", conclusion="cancelled", completed=9, labels=[])
    for order in permutations([QUEUED, ended]):
        memory = Memory()
        for delivery in deliveries(order):
            memory.count([delivery])
            assert not anomalies(memory.tally)
        memory.settle()
        assert not anomalies(memory.tally)
        assert statuses(memory.tally) == {("queued", ""): 1, ("completed", "cancelled"): 1}


def test_a_phantom_that_turns_out_to_be_a_job_after_all_stays_counted_once() -> None:
    ended = builders.job(status="completed", conclusion="cancelled", completed=9, labels=[])
    first, late = deliveries([ended, QUEUED])
    memory = Memory()
    memory.count([first])
    memory.settle()
    memory.count([late])
    memory.settle()
    assert anomalies(memory.tally) == {"phantom_job": 1}


@pytest.mark.parametrize("created", [0, 500])
def test_a_carried_over_job_measures_the_queue_time_once_whatever_creation_it_reports(created: int) -> None:
    ran: Payload = {"started": 7, "completed": 67, "runner": 5, "conclusion": "success"}
    carried = builders.job(999, attempt=2, status="completed", created=created, **ran)
    for order in permutations([QUEUED, RUNNING, SUCCEEDED, carried]):
        memory = Memory()
        for delivery in deliveries(order):
            memory.count([delivery])
        memory.settle()
        assert observed(memory.tally, "promgithub_job_queue_seconds") == [7000]
        assert anomalies(memory.tally) == {"carried_over_job": 1}


def test_the_queue_time_counts_once_if_only_the_carried_over_report_of_the_end_came() -> None:
    carried = builders.job(
        999, attempt=2, status="completed", started=7, completed=67, runner=5, conclusion="success", created=0
    )
    for order in permutations([QUEUED, RUNNING, carried]):
        assert observed(settled(order), "promgithub_job_queue_seconds") == [7000]
        assert observed(settled(order), "promgithub_job_duration_seconds") == [60_000]


@pytest.mark.parametrize("lacks", [{"runner_id": None, "runner_name": None, "steps": []}, {"completed_at": None}])
def test_a_first_end_that_lacks_facts_still_lets_a_later_one_give_the_duration_once(lacks: Payload) -> None:
    partial = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5, **lacks)
    for order in permutations([QUEUED, partial, SUCCEEDED]):
        tally = settled(order)
        assert observed(tally, "promgithub_job_duration_seconds") == [60_000]
        assert statuses(tally) == {("queued", ""): 1, ("completed", "success"): 1}
        assert not anomalies(tally)


def test_approval_is_not_queueing() -> None:
    ran: Payload = {"created": -259_190, "started": 10, "runner": 5}
    gated = [
        builders.job(status="queued", created=-259_190, gate=-259_190),
        builders.job(status="waiting", created=-259_190, gate=-259_189),
        builders.job(status="queued", created=-259_190, gate=5),
        builders.job(status="in_progress", gate=5, **ran),
    ]
    for order in permutations(gated):
        memory = memory_of(order)
        assert observed(memory.tally, "promgithub_job_queue_seconds") == []
        assert memory.unsettled() == ["queue_time"]
        memory.settle()
        assert observed(memory.tally, "promgithub_job_queue_seconds") == [5000]


@pytest.mark.parametrize(
    ("updated", "waited"),
    [
        pytest.param(5, 5000, id="GitHub did not update the deployment when the job started"),
        pytest.param(10, 0, id="GitHub updated it when the job started"),
        pytest.param(11, 0, id="GitHub updated it after the job started"),
    ],
)
def test_without_the_queued_after_an_approval_the_queue_time_begins_when_the_job_had_left_waiting(
    updated: int, waited: int
) -> None:
    ran: Payload = {"created": -259_190, "started": 10, "runner": 5}
    gated = [
        builders.job(status="queued", created=-259_190, gate=-259_190),
        builders.job(status="waiting", created=-259_190, gate=-259_189),
        builders.job(status="in_progress", gate=updated, **ran),
        builders.job(status="completed", conclusion="success", completed=60, gate=60, **ran),
    ]
    for given in (gated, gated[1:]):
        for order in permutations(given):
            assert observed(settled(order), "promgithub_job_queue_seconds") == [waited]


def test_a_job_that_waited_and_whose_release_no_delivery_dates_has_no_queue_time() -> None:
    waiting = builders.job(status="waiting", created=-259_190, gate=-259_189)
    undated = builders.job(status="in_progress", created=-259_190, started=10, runner=5)
    for order in permutations([waiting, undated]):
        assert observed(settled(order), "promgithub_job_queue_seconds") == []
        assert not anomalies(settled(order))


def test_the_waiting_of_a_job_without_a_deployment_counts_as_queue_time() -> None:
    waiting = builders.job(status="waiting", created=0)
    ran = builders.job(status="in_progress", created=0, started=10, runner=5)
    for order in permutations([waiting, ran]):
        assert observed(settled(order), "promgithub_job_queue_seconds") == [10_000]


def test_a_check_run_that_requires_action_is_no_job_and_waits_for_nothing() -> None:
    asks = builders.job(status="completed", conclusion="action_required", completed=9, labels=[])
    assert job_phase([asks]) is None
    assert statuses(settled([asks])) == {}
    assert anomalies(settled([asks])) == {"phantom_job": 1}


def test_equal_ids_of_two_hosts_are_two_jobs_and_the_other_host_s_repository_has_its_name() -> None:
    memory = Memory()
    memory.count(
        [
            builders.delivery(QUEUED, builders.guid(1)),
            builders.delivery(QUEUED, builders.guid(2), host="github.example.com"),
            builders.delivery(QUEUED, builders.guid(3), host=HOME),
        ]
    )
    repositories = {labels[0]: n for (_, labels), n in by_name(memory.tally).items()}
    assert repositories == {"acme/gears": 1, "github.example.com/acme/gears": 1}


def test_payloads_of_old_enterprise_servers_lack_fields_and_count_all_the_same() -> None:
    old_job = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)
    for field in ("head_branch", "workflow_name", "created_at", "run_attempt"):
        del old_job["workflow_job"][field]
    old_run = builders.run(status="completed", conclusion="success", updated=60)
    for field in ("path", "display_title", "triggering_actor", "run_attempt", "head_repository"):
        del old_run["workflow_run"][field]
    nulls = builders.job(
        2, status="queued", run_attempt=None, labels=None, steps=None, created_at=None, started_at=None
    )
    assert statuses(counted([nulls])) == {("queued", ""): 1}
    tally = counted([old_job, old_run])
    assert by_name(tally)["promgithub_job_status", ("acme/gears", "other", "unknown", "completed", "success")] == 1
    assert by_name(tally)["promgithub_workflow_status", (*NAMES, "completed", "success")] == 1


def test_a_fork_s_main_is_not_our_main() -> None:
    from_fork = builders.run(head_repository=FORK)
    deleted_fork = builders.run(head_repository=None)
    for payload in (from_fork, deleted_fork):
        assert branches(counted([payload])) == {"other"}


@pytest.mark.parametrize("head", [FORK, None])
def test_a_job_of_a_fork_s_main_is_not_of_our_main_once_its_run_is_known(head: Payload | None) -> None:
    run, queued, ended = deliveries([builders.run(head_repository=head), QUEUED, SUCCEEDED])
    for first in ([run], [run, queued], [queued, run]):
        memory = Memory()
        memory.count(first)
        memory.count([queued, ended])
        assert branches(memory.tally) == {"other"}
        (job,) = memory.known(JOBS).values()
        assert JOBS.labels(job).branch == "other"


def test_what_a_job_counted_before_its_run_was_known_to_come_from_a_fork_stays_counted() -> None:
    memory = Memory()
    for delivery in deliveries([QUEUED, builders.run(head_repository=FORK), SUCCEEDED]):
        memory.count([delivery])
    counts = by_name(memory.tally)
    assert counts["promgithub_job_status", (*NAMES, "queued", "")] == 1
    assert counts["promgithub_job_status", ("acme/gears", "other", "build", "completed", "success")] == 1
    assert not anomalies(memory.tally)


def test_a_later_attempt_of_a_fork_s_run_is_of_the_fork_too() -> None:
    again = builders.job(2, attempt=2, status="completed", conclusion="success", started=7, completed=67, runner=5)
    tally = counted([builders.run(head_repository=FORK), again])
    assert branches(tally) == {"other"}


def test_a_run_of_another_host_with_the_same_id_makes_no_job_one_of_a_fork() -> None:
    memory = Memory()
    memory.count([builders.delivery(builders.run(head_repository=FORK), host="github.example.com")])
    grown = memory.count([builders.delivery(QUEUED)])
    assert branches(grown) == {"main"}


@pytest.mark.parametrize("pattern", ["<default>|main", ".*", "<default>"])
def test_runs_and_jobs_of_a_merge_queue_share_one_branch_whatever_the_setting_keeps(pattern: str) -> None:
    memory = Memory(Policy(BranchPolicy(pattern), HOME, RunnerClasses()))
    own = builders.repository(default_branch=MERGE_QUEUE_BRANCH)
    for repo in (builders.repository(), own):
        memory.count(map(builders.delivery, (builders.run(branch=MERGE_QUEUE_BRANCH, repo=repo),)))
        memory.count(map(builders.delivery, (builders.job(branch=MERGE_QUEUE_BRANCH, repo=repo),)))
    assert branches(memory.tally) == {"merge_queue"}


def test_a_fork_s_branch_named_like_a_merge_queue_s_is_the_fork_s() -> None:
    run = builders.run(branch=MERGE_QUEUE_BRANCH, head_repository=FORK)
    tally = counted([run, builders.job(branch=MERGE_QUEUE_BRANCH)])
    assert branches(tally) == {"other"}


@pytest.mark.parametrize(
    ("branch", "default", "label"),
    [
        ("main", "trunk", "main"),
        ("gh-readonly-queue", "trunk", "other"),
        ("trunk", "trunk", "trunk"),
        ("release/1.2", "trunk", "release/1.2"),
        ("feature/x", "trunk", "other"),
        ("mainly", "trunk", "other"),
        ("v1.0+rc", "v1.0+rc", "v1.0+rc"),
        ("v1x0+rc", "v1.0+rc", "other"),
        (None, "trunk", "other"),
    ],
)
def test_only_branches_that_the_setting_keeps_become_label_values(branch: str | None, default: str, label: str) -> None:
    payload = builders.run(branch=branch, repo=builders.repository(default_branch=default))
    assert branches(counted([payload])) == {label}


def test_pushes_count_once_with_all_their_commits_and_integer_times() -> None:
    tally = counted([builders.push(3), builders.push(0, ref="refs/tags/v1")])
    assert by_name(tally) == {("promgithub_push", ("acme/gears",)): 2, ("promgithub_commit_pushed", ("acme/gears",)): 3}


def test_pushes_of_a_merge_queue_are_ignored_with_their_commits_and_counted_as_such() -> None:
    tally = counted([builders.push(2048, ref=f"refs/heads/{MERGE_QUEUE_BRANCH}"), builders.push(3)])
    assert by_name(tally) == {
        ("promgithub_push_ignored", ("merge_queue",)): 1,
        ("promgithub_push", ("acme/gears",)): 1,
        ("promgithub_commit_pushed", ("acme/gears",)): 3,
    }


def test_a_tag_named_like_a_merge_queue_s_branch_is_pushed() -> None:
    tally = counted([builders.push(0, ref=f"refs/tags/{MERGE_QUEUE_BRANCH}")])
    assert by_name(tally) == {("promgithub_push", ("acme/gears",)): 1}


@pytest.mark.parametrize("event", ["workflow_run", "workflow_job", "pull_request"])
def test_a_null_subject_is_an_anomaly_and_a_missing_one_cannot_be_counted(event: str) -> None:
    payload: Payload = {"action": "completed", "repository": builders.repository(), event: None}
    memory = Memory()
    memory.count([builders.delivery(payload, event=event)])
    assert by_name(memory.tally) == {("promgithub_anomaly", ("null_subject",)): 1}
    del payload[event]
    with pytest.raises(PoisonError, match="undecodable"):
        interpret(builders.delivery(payload, event=event), POLICY)


def test_attempt_zero_is_the_first_attempt() -> None:
    # Gitea and Forgejo send it.
    run = [builders.run(run_attempt=0), builders.run(attempt=1, status="completed", conclusion="success", updated=60)]
    for order in permutations([*run, builders.job(run_attempt=0), SUCCEEDED]):
        memory = memory_of(order)
        assert [attempt for _, _, attempt in memory.known(RUNS)] == [1]
        assert [job.attempt for job in memory.known(JOBS).values()] == [1]
        assert "promgithub_workflow_reruns" not in {name for name, _ in by_name(memory.tally)}


@pytest.mark.parametrize("workflow", [None, {"id": 1}, {"id": 1, "name": None}, {"id": 1, "name": ""}])
def test_without_a_name_of_the_workflow_the_label_is_its_path_and_not_the_dynamic_name_of_the_run(
    workflow: Payload | None,
) -> None:
    payload = builders.run(name="Deploy 1.2.3 for octocat") | {"workflow": workflow}
    assert {labels[2] for _, labels in counted([payload]).counts} == {".github/workflows/build.yml"}
    del payload["workflow_run"]["path"]
    assert {labels[2] for _, labels in counted([payload]).counts} == {"Deploy 1.2.3 for octocat"}


def test_a_push_at_github_s_limit_of_listed_commits_is_marked() -> None:
    assert anomalies(counted([builders.push(2048)])) == {"truncated_push": 1}


@pytest.mark.parametrize(("merged", "status"), [(True, "merged"), (False, "closed")])
def test_a_closed_pull_request_is_merged_or_closed(merged: bool, status: str) -> None:
    tally = counted([builders.pull_request("closed", merged=merged)])
    assert by_name(tally) == {("promgithub_pull_request", ("acme/gears", "main", status)): 1}


def test_unknown_actions_and_conclusions_are_kept_as_they_came() -> None:
    tally = counted(
        [
            builders.pull_request("stacked"),
            builders.job(status="completed", conclusion="brand_new", started=1, completed=2, runner=5),
        ]
    )
    assert by_name(tally)["promgithub_pull_request", ("acme/gears", "main", "stacked")] == 1
    assert statuses(tally) == {("completed", "brand_new"): 1}


def test_ids_beyond_two_to_the_53_are_told_apart() -> None:
    big = 2**53
    tally = counted([builders.job(big, status="queued"), builders.job(big + 1, status="queued")])
    assert statuses(tally) == {("queued", ""): 2}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "undecodable"),
        ({"workflow_job": {"id": "one", "run_id": 1}}, "undecodable"),
        ({"workflow_job": {"id": 2**63, "run_id": 1}}, "undecodable"),
        ({"workflow_job": {"id": 1}}, "undecodable"),
        ({"workflow_job": {"id": 1, "run_id": 1}, "repository": {"full_name": "a/b"}}, "no_status"),
        ({"workflow_job": {"id": 1, "run_id": 1, "status": "queued"}}, "no_repository"),
        (
            {"workflow_job": {"id": 1, "run_id": 1, "status": "queued"}, "repository": {"full_name": ""}},
            "no_repository",
        ),
    ],
)
def test_a_payload_that_cannot_be_counted_says_why(payload: Payload, reason: str) -> None:
    with pytest.raises(PoisonError) as caught:
        interpret(builders.delivery(payload, event="workflow_job"), POLICY)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_a_delivery_without_a_guid_cannot_be_counted() -> None:
    with pytest.raises(PoisonError, match="bad_delivery_id"):
        interpret(builders.delivery(builders.push(), "not-a-guid"), POLICY)


def test_a_delivery_without_an_event_cannot_be_counted() -> None:
    with pytest.raises(PoisonError, match="no_event"):
        interpret(builders.delivery(builders.push(), event=""), POLICY)


@pytest.mark.parametrize("event", ["star", "check_run", "brand_new_event"])
def test_events_that_are_not_counted_tell_nothing(event: str) -> None:
    assert interpret(builders.delivery({"anything": 1}, event=event), POLICY) is None


def test_of_contradictory_ends_of_a_run_one_that_gives_a_duration_counts_in_any_order() -> None:
    ends = [
        builders.run(status="completed", conclusion="success", began=50, updated=40),
        builders.run(status="completed", conclusion="success", began=50, updated=60),
    ]
    for order in permutations(ends):
        tally = settled(order)
        assert observed(tally, "promgithub_workflow_duration_seconds") == [10_000]
        assert not anomalies(tally)
