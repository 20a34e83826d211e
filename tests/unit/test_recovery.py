"""The pure code of recovery: missing deliveries, GitHub's answers, and pauses."""

import json
import uuid
from typing import Any

import pytest

from processor.counting.events import Policy, interpret
from processor.counting.jobs import JOBS
from processor.counting.known_job import Job
from processor.counting.label_values import BranchPolicy
from processor.counting.runner_classes import RunnerClasses
from processor.counting.runs import RUNS, Run, RunEnd, RunKey
from processor.counting.subjects import Fact
from processor.recovery.answers import Asked, job_news, listed_jobs, run_news
from processor.recovery.hooks import parse_hook
from processor.recovery.limits import BURST, Budget, Pace, pause
from processor.recovery.missing import Listing, attempts, recovered
from shared.delivery import RECONCILED, RECOVERED, Delivery
from shared.errors import PoisonError
from tests.support import builders
from tests.support.builders import START, Payload, moment

POLICY = Policy(BranchPolicy("<default>|release/.*"), "github.com", RunnerClasses())
NOW = int(START.timestamp() * 1000) + 3_600_000


# --- What is missing ---


def attempt(number: int, guid: str, *, seconds: float = 0, event: str = "push", code: int = 502) -> Payload:
    status = "OK" if code == 202 else "failed"
    item = {"id": number, "guid": guid, "event": event, "status": status, "status_code": code}
    return item | {"delivered_at": moment(seconds), "throttled_at": None}


def listing(*items: Payload, since: float = 0) -> Listing:
    made = Listing(int((START.timestamp() + since) * 1000))
    made.add(attempts(list(items)), ())
    return made


ONE, OTHER = builders.guid(1), builders.guid(2)


def test_attempts_are_grouped_by_guid_and_the_latest_one_is_fetched() -> None:
    (missing,) = listing(attempt(2, ONE, seconds=9), attempt(1, ONE, seconds=5)).missing()
    assert (missing.number, str(missing.guid)) == (2, ONE)


def test_what_succeeded_at_any_attempt_is_not_missing() -> None:
    assert listing(attempt(2, ONE, seconds=9), attempt(1, ONE, code=202)).missing() == []
    assert listing(attempt(2, ONE, seconds=9, code=202), attempt(1, ONE)).missing() == []


def test_what_is_not_counted_is_not_missing() -> None:
    items = [attempt(1, ONE, event="made_up"), attempt(2, "no-guid"), attempt(3, OTHER, event="workflow_job")]
    assert [one.number for one in listing(*items).missing()] == [3]


def test_the_oldest_come_first_as_github_forgets_them_first() -> None:
    found = listing(attempt(3, ONE, seconds=30), attempt(2, OTHER, seconds=20)).missing()
    assert [one.number for one in found] == [2, 3]


def test_a_list_is_read_only_down_to_the_cursor() -> None:
    made = Listing(int((START.timestamp() + 10) * 1000))
    assert made.add(attempts([attempt(3, ONE, seconds=30)]), ())
    assert not made.add(attempts([attempt(2, OTHER, seconds=10), attempt(1, OTHER, seconds=9)]), ())
    assert len(made.missing()) == 2
    assert made.newest == int((START.timestamp() + 30) * 1000)


def test_a_recovered_delivery_is_what_the_webhook_would_have_brought() -> None:
    payload = builders.push(2)
    request = {"headers": {"X-GitHub-Hook-ID": "7"}, "payload": payload}
    detail = {"guid": ONE, "event": "push", "id": 5, "request": request}
    made = recovered(detail, "1", "repository", NOW, host=None)
    assert json.loads(made.body) == payload
    assert (made.id, made.event, made.received_at, made.hook_id) == (ONE, "push", NOW, "7")
    assert (made.target_type, made.source, made.host) == ("repository", RECOVERED, None)


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ({}, "ghes.example.com"),
        ({"X-GitHub-Enterprise-Host": "Older.Example.com"}, "older.example.com"),
        ({"X-GitHub-Enterprise-Host": "no host"}, "ghes.example.com"),
        ({"X-GitHub-Enterprise-Host": None}, "ghes.example.com"),
    ],
)
def test_a_recovered_delivery_has_the_host_that_was_sent_with_it_or_else_that_of_the_api(
    sent: Payload, host: str
) -> None:
    request = {"headers": sent, "payload": builders.push()}
    detail = {"guid": ONE, "event": "push", "id": 5, "request": request}
    assert recovered(detail, "1", "repository", NOW, host="ghes.example.com").host == host


@pytest.mark.parametrize(
    ("text", "path", "scope"),
    [
        ("acme/gears/7", "/repos/acme/gears/hooks/7/deliveries/5", "acme/gears"),
        ("acme/7", "/orgs/acme/hooks/7/deliveries/5", "acme"),
        ("app", "/app/hook/deliveries/5", ""),
    ],
)
def test_a_hook_is_asked_about_where_its_owner_says(text: str, path: str, scope: str) -> None:
    request = parse_hook(text).delivery(5)
    assert (request.path, request.scope) == (path, scope)


# --- What GitHub's answers tell ---


def fact_of(delivery: Delivery) -> Fact:
    fact = interpret(delivery, POLICY)
    assert isinstance(fact, Fact)
    return fact


def known_job(*payloads: Payload) -> Job:
    known: Job | None = None
    for payload in payloads:
        told = fact_of(builders.delivery(payload, builders.guid())).told
        known = told if known is None else JOBS.join(known, told)
    assert known is not None
    return known


def known_run(payload: Payload) -> tuple[RunKey, Run]:
    fact = fact_of(builders.delivery(payload, builders.guid()))
    assert isinstance(fact.key, RunKey)
    return fact.key, fact.told


def job_says(known: Job, answer: Payload, host: str | None = None) -> list[Delivery]:
    asked = Asked(host, POLICY, NOW)
    return list(job_news(known, answer["workflow_job"], builders.repository(), asked))


def run_says(known: tuple[RunKey, Run], answer: Payload) -> list[Delivery]:
    return list(run_news(*known, answer["workflow_run"], builders.repository(), Asked(None, POLICY, NOW)))


def after(known: Job, deliveries: list[Delivery]) -> Job:
    for delivery in deliveries:
        known = JOBS.join(known, fact_of(delivery).told)
    return known


def values(known: Job | Run) -> tuple[str | None, ...]:
    return tuple(name.value if name else None for name in known.names)


QUEUED = builders.job()
RUNNING = builders.job(status="in_progress", started=7, runner=5)
DONE = builders.job(status="completed", conclusion="success", started=7, completed=67, runner=5)


def test_what_github_says_of_an_ended_job_is_what_its_webhooks_would_have_said() -> None:
    known = known_job(QUEUED)
    reconciled = after(known, job_says(known, DONE))
    truth = known_job(QUEUED, RUNNING, DONE)
    assert reconciled.seen == truth.seen
    assert reconciled.finish is not None
    assert truth.finish is not None
    assert reconciled.finish._replace(emitted=0) == truth.finish._replace(emitted=0)
    assert reconciled.start is not None
    assert truth.start is not None
    assert reconciled.start._replace(emitted=0) == truth.start._replace(emitted=0)
    assert truth.start.started - START.timestamp() * 1000 == 7000
    assert values(reconciled) == values(truth) == ("acme/gears", "main", "build")


def test_an_answer_has_the_same_id_each_time_and_another_for_each_state() -> None:
    known = known_job(QUEUED)
    first, again = job_says(known, DONE), job_says(known, DONE)
    assert [one.id for one in first] == [one.id for one in again]
    assert len({one.id for one in first}) == 2
    assert {uuid.UUID(one.id).version for one in first} == {5}
    assert {one.source for one in first} == {RECONCILED}


def test_an_answer_has_the_host_that_was_asked_and_another_id_for_another_host() -> None:
    known = known_job(QUEUED)
    here, there = job_says(known, DONE), job_says(known, DONE, "ghes.example.com")
    assert {one.host for one in here} == {None}
    assert {one.host for one in there} == {"ghes.example.com"}
    assert not {one.id for one in here} & {one.id for one in there}


def test_what_still_runs_is_left_alone() -> None:
    assert job_says(known_job(QUEUED, RUNNING), RUNNING) == []
    running = builders.run(status="in_progress", updated=5)
    assert run_says(known_run(running), builders.run(status="in_progress", updated=50)) == []


def test_an_answer_that_lags_behind_what_is_known_changes_nothing() -> None:
    assert job_says(known_job(QUEUED, RUNNING), QUEUED) == []


def test_reconciliation_reports_a_missed_approval() -> None:
    known = known_job(builders.job(gate=0), builders.job(status="waiting", gate=5))
    told = after(known, job_says(known, QUEUED))
    assert told.standing.status == "queued"
    assert job_says(told, QUEUED) == []


def test_a_job_that_never_ran_was_never_in_progress() -> None:
    (only,) = job_says(known_job(QUEUED), builders.job(status="completed", conclusion="cancelled", completed=9))
    assert json.loads(only.body)["action"] == "completed"


def test_an_answer_about_another_attempt_tells_nothing_of_this_one() -> None:
    later = builders.run(attempt=2, status="completed", conclusion="success", updated=90)
    assert run_says(known_run(builders.run(attempt=1, status="in_progress")), later) == []


@pytest.mark.parametrize("page", [None, "x", [], {}, {"jobs": None}, {"jobs": [None, {}, {"id": "1"}]}])
def test_an_invalid_list_has_no_jobs(page: Any) -> None:
    assert listed_jobs(page) == {}


@pytest.mark.parametrize("answer", [{}, {"id": "x"}, {"id": 1, "status": 5}, {"id": 1, "run_id": 2}])
def test_an_answer_that_makes_no_sense_is_refused_and_breaks_nothing(answer: Payload) -> None:
    with pytest.raises(PoisonError):
        job_news(known_job(QUEUED), answer, builders.repository(), Asked(None, POLICY, NOW))
    with pytest.raises(PoisonError):
        run_news(*known_run(builders.run()), answer, builders.repository(), Asked(None, POLICY, NOW))


def test_an_ended_run_keeps_the_names_that_its_metrics_have() -> None:
    known = known_run(builders.run(status="in_progress"))
    renamed = builders.run(status="completed", conclusion="success", updated=90, name="x", path="y")
    (one,) = run_says(known, renamed)
    told = fact_of(one).told
    joined = RUNS.join(known[1], told)
    assert values(joined) == values(told) == ("acme/gears", "main", "build")
    assert isinstance(joined.end, RunEnd)
    assert joined.end.began is not None
    assert joined.end.ended is not None
    assert joined.end.ended - joined.end.began == 90_000


def test_a_run_of_an_enterprise_server_is_told_under_the_name_and_host_that_its_rows_have() -> None:
    payload = builders.run(status="in_progress")
    fact = fact_of(builders.delivery(payload, builders.guid(), host="ghes.example.com"))
    assert isinstance(fact.key, RunKey)
    done = builders.run(status="completed", conclusion="success", updated=90)
    asked = Asked("ghes.example.com", POLICY, NOW)
    (one,) = run_news(fact.key, fact.told, done["workflow_run"], builders.repository(), asked)
    told = fact_of(one)
    assert told.key == fact.key
    assert values(told.told) == values(fact.told) == ("ghes.example.com/acme/gears", "main", "build")


# --- How long to wait ---


def headers(**told: object) -> dict[str, str]:
    return {f"x-ratelimit-{name}": str(value) for name, value in told.items()}


def test_a_budget_is_a_share_of_the_limit_and_what_others_use_counts_too() -> None:
    budget = Budget(0.5)
    assert budget.wait(0) == 0
    budget.hear(headers(limit=100, remaining=52, reset=1000), 400)
    assert budget.wait(400) == 0
    budget.spend()
    assert budget.wait(400) == 0
    budget.spend()
    assert budget.wait(400) == 601
    assert budget.wait(1001) == 0


def test_a_clock_that_is_wrong_does_not_matter_to_the_budget() -> None:
    budget = Budget(0.5)
    told = {"date": "Thu, 01 Jan 1970 00:06:40 GMT", **headers(limit=100, remaining=50, reset=1000)}
    budget.hear(told, 90_000)
    assert budget.wait(90_000) == 601


def test_without_a_limit_there_is_nothing_to_wait_for() -> None:
    budget = Budget(0.5)
    budget.hear({}, 0)
    budget.spend()
    assert budget.wait(0) == 0


def test_the_pace_stays_below_900_points_a_minute() -> None:
    pace, now, spent = Pace(), 1000.0, 0
    while now < 1060:
        now += pace.wait("GET", now)
        spent += 1
    assert BURST < spent <= 900


def test_requests_that_change_something_are_a_second_apart() -> None:
    pace = Pace()
    assert pace.wait("POST", 1000.0) == 0
    assert pace.wait("POST", 1000.25) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("status", "told", "message", "seconds"),
    [
        (403, {"retry-after": "7"}, "You have exceeded a secondary rate limit", (7, 7)),
        (429, {"retry-after": "7"}, "", (7, 7)),
        (403, headers(remaining=0, reset=1100), "API rate limit exceeded", (101, 101)),
        (403, headers(remaining=9, reset=1100), "You have exceeded a secondary rate limit", (120, 144)),
        (429, {}, "", (120, 144)),
        (503, {"retry-after": "3"}, "", (3, 3)),
        (502, {}, "", (2, 2.4)),
        (0, {}, "TimeoutError", (2, 2.4)),
        (403, headers(remaining=9, reset=1100), "Resource not accessible by integration", None),
        (404, {}, "Not Found", None),
        (401, {}, "Bad credentials", None),
    ],
)
def test_github_is_asked_again_when_it_says_or_not_at_all(
    status: int, told: dict[str, str], message: str, seconds: Any
) -> None:
    waited = pause(status, told, message, attempt=2, now=1000.0)
    assert waited is None if seconds is None else waited is not None and seconds[0] <= waited <= seconds[1]
