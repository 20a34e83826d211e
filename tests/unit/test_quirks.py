"""GitHub's payloads as they really are: each quirk that is known to corrupt other exporters."""

from collections.abc import Iterable
from itertools import permutations

import pytest

from processor.events import JobFact, interpret
from processor.fold import Outcome, executions, fold
from processor.lifecycle import Execution, Phase, phase
from processor.series import BranchPolicy, Tally
from shared.errors import PoisonError
from tests import builders
from tests.builders import Payload

BRANCHES = BranchPolicy(r"<default>|main|master|release/.*")
NAMES = ("acme/gears", "main", "build")


def outcome(payloads: Iterable[Payload]) -> Outcome:
    """Fold payloads, emitted one second after another in the order of the list."""
    deliveries = [builders.delivery(p, builders.guid(i, serial=i)) for i, p in enumerate(payloads)]
    facts = [fact for d in deliveries if (fact := interpret(d, BRANCHES)) is not None]
    owners: dict[str, Execution] = executions(facts)
    return fold({}, {}, owners, facts)


def counted(payloads: Iterable[Payload]) -> Tally:
    return outcome(payloads).tally


def statuses(tally: Tally, metric: str = "promgithub_job_status") -> dict[tuple[str, str], int]:
    return {labels[3:]: n for (name, labels), n in tally.counts.items() if name == metric}  # type: ignore[misc]


def observed(tally: Tally, metric: str) -> list[int]:
    return sorted(ms for ((name, _), ms), n in tally.observations.items() if name == metric for _ in range(n))


def anomalies(tally: Tally) -> dict[str, int]:
    return {labels[0]: n for (name, labels), n in tally.counts.items() if name == "promgithub_anomaly"}


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
    tally = counted([job])
    assert observed(tally, "promgithub_job_duration_seconds") == []
    assert anomalies(tally) == {"negative_job_duration": 1}


def test_a_job_that_started_before_it_was_created_is_an_anomaly_and_not_observed() -> None:
    tally = counted([builders.job(status="in_progress", created=5, started=3, runner=5)])
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
        (job,) = outcome(order).jobs.values()
        assert phase(job) is None


def test_a_check_run_in_disguise_is_an_anomaly_and_not_a_job() -> None:
    disguised = builders.job(status="completed", conclusion="success", completed=9, labels=[])
    tally = counted([disguised])
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
        tally = counted(order)
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


@pytest.mark.parametrize("last", ["queued", "waiting"])
def test_of_queued_and_waiting_the_newer_deployment_time_wins_in_any_order(last: str) -> None:
    first = "waiting" if last == "queued" else "queued"
    gated = [
        builders.job(status="queued", gate=0),
        builders.job(status=first, gate=2),
        builders.job(status=last, action="queued", gate=5),
    ]
    for order in permutations(gated):
        (job,) = outcome(order).jobs.values()
        assert phase(job) == Phase(last)


def test_of_queued_and_waiting_at_the_same_second_the_delivery_id_decides() -> None:
    told = [("queued", 0), ("waiting", 1), ("queued", 2)]
    deliveries = [builders.delivery(builders.job(status=s), builders.guid(t)) for s, t in told]
    for order in permutations(deliveries):
        facts = [fact for d in order if isinstance(fact := interpret(d, BRANCHES), JobFact)]
        (job,) = fold({}, {}, {}, facts).jobs.values()
        assert phase(job) == Phase.QUEUED


def test_a_late_waiting_does_not_beat_in_progress() -> None:
    late = builders.job(status="waiting", gate=500)
    (job,) = outcome([QUEUED, RUNNING, late]).jobs.values()
    assert phase(job) == Phase.IN_PROGRESS


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
    (run,) = outcome([builders.run(action=action, status=status, conclusion=conclusion)]).runs.values()
    assert phase(run) == expected


def test_a_run_whose_approval_was_awaited_goes_on() -> None:
    asked = builders.run(status="completed", conclusion="action_required", action="requested")
    started = builders.run(status="in_progress", updated=60)
    ended = builders.run(status="completed", conclusion="success", updated=90)
    for order in permutations([asked, started, ended]):
        result = outcome(order)
        (run,) = result.runs.values()
        assert phase(run) is None
        assert statuses(result.tally, "promgithub_workflow_status") == {
            ("completed", "action_required"): 1,
            ("in_progress", ""): 1,
            ("completed", "success"): 1,
        }
        assert observed(result.tally, "promgithub_workflow_duration_seconds") == [90_000]


def test_a_rerun_is_a_new_attempt_measured_from_its_own_start() -> None:
    first = builders.run(status="completed", conclusion="failure", updated=60)
    again = builders.run(attempt=2, status="in_progress", began=86_400, updated=86_400)
    ended = builders.run(attempt=2, status="completed", conclusion="success", began=86_400, updated=86_430)
    for order in permutations([first, again, ended]):
        tally = counted(order)
        assert observed(tally, "promgithub_workflow_duration_seconds") == [30_000, 60_000]
        assert tally.counts["promgithub_workflow_reruns", NAMES] == 1


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
        assert {labels[:3] for (name, labels) in tally.counts if name == "promgithub_job_status"} == {NAMES}


def test_a_repository_renamed_in_between_keeps_its_first_name() -> None:
    renamed = builders.job(
        status="completed",
        conclusion="success",
        started=7,
        completed=67,
        runner=5,
        repo=builders.repository("acme/cogs"),
    )
    for order in permutations([RUNNING, renamed]):
        assert {labels[0] for (_, labels) in counted(order).counts} == {"acme/gears"}


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
    assert tally.counts["promgithub_job_status", ("acme/gears", "other", "unknown", "completed", "success")] == 1
    assert tally.counts["promgithub_workflow_status", (*NAMES, "completed", "success")] == 1


def test_a_fork_s_main_is_not_our_main() -> None:
    fork = builders.repository("stranger/gears", id=7, fork=True)
    from_fork = builders.run(head_repository=fork)
    deleted_fork = builders.run(head_repository=None)
    for payload in (from_fork, deleted_fork):
        assert {labels[1] for (_, labels) in counted([payload]).counts} == {"other"}


@pytest.mark.parametrize(
    ("branch", "default", "label"),
    [
        ("main", "trunk", "main"),
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
    assert {labels[1] for (_, labels) in counted([payload]).counts} == {label}


def test_pushes_count_once_with_all_their_commits_and_integer_times() -> None:
    tally = counted([builders.push(3), builders.push(0, ref="refs/tags/v1")])
    assert tally.counts == {("promgithub_push", ("acme/gears",)): 2, ("promgithub_commit_pushed", ("acme/gears",)): 3}


def test_a_push_at_github_s_limit_of_listed_commits_is_marked() -> None:
    assert anomalies(counted([builders.push(2048)])) == {"truncated_push": 1}


@pytest.mark.parametrize(("merged", "status"), [(True, "merged"), (False, "closed")])
def test_a_closed_pull_request_is_merged_or_closed(merged: bool, status: str) -> None:
    tally = counted([builders.pull_request("closed", merged=merged)])
    assert tally.counts == {("promgithub_pull_request", ("acme/gears", "main", status)): 1}


def test_unknown_actions_and_conclusions_are_kept_as_they_came() -> None:
    tally = counted(
        [
            builders.pull_request("stacked"),
            builders.job(status="completed", conclusion="brand_new", started=1, completed=2, runner=5),
        ]
    )
    assert tally.counts["promgithub_pull_request", ("acme/gears", "main", "stacked")] == 1
    assert statuses(tally) == {("completed", "brand_new"): 1}


def test_ids_beyond_two_to_the_53_are_told_apart() -> None:
    big = 2**53
    tally = counted([builders.job(big, status="queued"), builders.job(big + 1, status="queued")])
    assert statuses(tally) == {("queued", ""): 2}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"workflow_job": None}, "undecodable"),
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
        interpret(builders.delivery(payload, event="workflow_job"), BRANCHES)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_a_delivery_without_a_guid_cannot_be_counted() -> None:
    with pytest.raises(PoisonError, match="bad_delivery_id"):
        interpret(builders.delivery(builders.push(), "not-a-guid"), BRANCHES)


def test_a_delivery_without_an_event_cannot_be_counted() -> None:
    with pytest.raises(PoisonError, match="no_event"):
        interpret(builders.delivery(builders.push(), event=""), BRANCHES)


@pytest.mark.parametrize("event", ["star", "check_run", "brand_new_event"])
def test_events_that_are_not_counted_tell_nothing(event: str) -> None:
    assert interpret(builders.delivery({"anything": 1}, event=event), BRANCHES) is None
