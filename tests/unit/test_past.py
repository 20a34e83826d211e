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


@settings(max_examples=300, deadline=None)
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
