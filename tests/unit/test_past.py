"""What a backfill counts, together with what deliveries count, is the truth, in whatever order both come."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.counting.ci_metrics import Tally
from processor.counting.past import STEP, PastIncrement, Span, _add
from processor.counting.subjects import Fact
from processor.recovery.answers import Asked
from processor.recovery.history import CreatedWindow, Workflows, history, slim
from promgithub.simulation.truth import sample_of
from shared.delivery import Delivery
from tests.support import builders, strategies
from tests.support.builders import START, Payload
from tests.support.memory import POLICY, Memory
from tests.support.worlds import World, worlds

NOW = int(START.timestamp() * 1000) + 86_400_000
SPAN = Span(NOW - 30 * 86_400_000, NOW)
ASKED = Asked(None, POLICY, NOW)

Parts = Counter[tuple[Any, int]]
"""Increments by sample and bound, without their time."""


def parts(past: Counter[PastIncrement]) -> Parts:
    """Return increments without their time, with the branch of a fork's jobs summed away."""
    found: Parts = Counter()
    for ((metric, labels), _, bound), value in past.items():
        found[sample_of(metric.name, dict(zip(metric.label_names, labels, strict=True))), bound] += value
    return +found


def parts_of(tally: Tally) -> Parts:
    past: Counter[PastIncrement] = Counter()
    _add(past, 0, tally)
    return parts(past)


def attempts_of(deliveries: Sequence[Delivery]) -> list[list[Fact]]:
    """Return what GitHub lists at the end of each attempt, as a backfill reads it."""
    jobs: dict[tuple[int, int], Payload] = {}
    runs: dict[int, Payload] = {}
    gated: set[int] = set()
    workflow = None
    for one in deliveries:
        payload = msgspec.json.decode(one.body)
        if run := payload.get("workflow_run"):
            runs[run["run_attempt"]], workflow = run, payload["workflow"]
            continue
        job = payload["workflow_job"]
        before = jobs.get((job["run_attempt"], job["id"]))
        if before is None or before["status"] != "completed":  # later reports of an end are partial
            jobs[job["run_attempt"], job["id"]] = job
        if payload.get("deployment"):
            gated.add(job["id"])
    assert workflow is not None
    workflows = Workflows(builders.repository(), {2823525: workflow})
    return [
        history(slim(run), [job for (of, _), job in jobs.items() if of == attempt], workflows, gated, ASKED).facts
        for attempt, run in sorted(runs.items())
    ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_run_that_is_delivered_and_backfilled_counts_once_in_any_order(data: st.DataObject) -> None:
    world: World = data.draw(worlds())
    straight = Memory()
    for delivery in world.deliveries:
        straight.count([delivery])
    straight.settle()
    memory = Memory()
    batches = data.draw(strategies.arrivals(world.deliveries))
    attempts = attempts_of(world.deliveries)
    attempts += attempts[: data.draw(st.integers(0, len(attempts)))]  # read once more after a kill
    places = sorted(data.draw(st.lists(st.integers(0, len(batches)), min_size=len(attempts), max_size=len(attempts))))
    for place in range(len(batches) + 1):
        for attempt, at in zip(attempts, places, strict=True):
            if at == place:
                memory.backfill(attempt, SPAN)
        if place < len(batches):
            memory.count(batches[place])
    memory.settle()
    assert memory.unsettled() == []
    assert parts(memory.past) + parts_of(memory.tally) == parts_of(straight.tally)


def backfilled(memory: Memory, *payloads: Payload) -> Parts:
    """Backfill the last states of a run and its jobs; return what that counted."""
    for facts in attempts_of([builders.delivery(payload) for payload in payloads]):
        memory.backfill(facts, SPAN)
    return parts(memory.past)


def amount(found: Parts, metric: str, **labels: str) -> int:
    wanted = labels.items()
    return sum(n for ((name, own), bound), n in found.items() if name == metric and wanted <= set(own) and bound >= -1)


RUN = builders.run(1, status="completed", conclusion="success", updated=900)
JOB: dict[str, Any] = {"run_id": 1, "created": 0}


def test_the_last_states_of_the_past_imply_those_before_it() -> None:
    ran = builders.job(2, **JOB, status="completed", conclusion="success", started=60, completed=660, runner=7)
    skipped = builders.job(3, **JOB, status="completed", conclusion="skipped", started=0, completed=0, labels=[])
    memory = Memory()
    found = backfilled(memory, RUN, ran, skipped)
    statuses = {
        status: amount(found, "promgithub_job_status", job_status=status)
        for status in ("queued", "in_progress", "completed")
    }
    assert statuses == {"queued": 1, "in_progress": 1, "completed": 2}
    assert amount(found, "promgithub_workflow_status") == 2
    steps = {
        dict(zip(one.series[0].label_names, one.series[1], strict=True))["job_status"]: one.step
        for one in memory.past
        if one.series[0].name == "promgithub_job_status" and "skipped" not in one.series[1]
    }
    seconds = {"queued": 0, "in_progress": 60, "completed": 660}
    start = int(START.timestamp() * 1000)
    assert steps == {status: -(-(start + 1000 * at) // STEP) * STEP for status, at in seconds.items()}


def test_a_fork_s_jobs_of_the_past_are_on_the_branch_other() -> None:
    run = RUN | {"workflow_run": RUN["workflow_run"] | {"head_repository": builders.FORK}}
    ended = builders.job(2, **JOB, status="completed", conclusion="success", started=60, completed=660, runner=7)
    found = backfilled(Memory(), run, ended)
    assert amount(found, "promgithub_job_status", branch="other") == amount(found, "promgithub_job_status") == 3


def test_what_deliveries_have_told_of_waits_for_their_rest() -> None:
    gated: dict[str, Any] = {
        "status": "completed",
        "conclusion": "success",
        "started": 605,
        "completed": 660,
        "runner": 7,
    }
    memory = Memory()
    memory.count([builders.delivery(builders.job(2, **JOB, gate=0))])  # the first of two `queued`
    found = backfilled(memory, RUN, builders.job(2, **JOB, gate=600, **gated))
    assert amount(found, "promgithub_job_queue_seconds") == 0
    memory.count([builders.delivery(builders.job(2, **JOB, status="waiting", gate=1))])
    memory.count([builders.delivery(builders.job(2, **JOB, gate=600))])
    memory.settle()
    waited = [ms for (series, ms), _ in memory.tally.observations.items() if series[0].name.endswith("queue_seconds")]
    assert waited == [5000]


def test_a_time_outside_of_the_backfill_does_not_stretch_its_series() -> None:
    old = builders.job(2, **JOB, status="completed", conclusion="success", runner=7)
    old["workflow_job"] |= {"started_at": "1999-12-31T23:59:59Z", "completed_at": "2999-01-01T00:00:00Z"}
    memory = Memory()
    backfilled(memory, RUN, old)
    assert all(SPAN.since <= one.step < SPAN.until + STEP for one in memory.past)


def test_a_window_is_halved_down_to_a_second() -> None:
    whole = CreatedWindow(1_700_000_000, 1_700_000_003)
    first, second = whole.halves()
    assert (first, second) == (CreatedWindow(1_700_000_000, 1_700_000_001), CreatedWindow(1_700_000_002, whole.until))
    assert not CreatedWindow(5, 5).halves()
    assert first.query == "2023-11-14T22:13:20Z..2023-11-14T22:13:21Z"


def test_the_workflow_of_a_past_run_keeps_its_name_after_it_was_deleted() -> None:
    ended = builders.job(2, **JOB, status="completed", conclusion="success", started=60, completed=660, runner=7)
    (facts,) = attempts_of([builders.delivery(payload) for payload in (RUN, ended)])
    run, job = RUN["workflow_run"], ended["workflow_job"]
    without = history(slim(run), [job], Workflows(builders.repository()), (), ASKED).facts
    assert [fact.told.names for fact in without] == [fact.told.names for fact in facts]
