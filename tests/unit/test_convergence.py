"""Metrics depend only on the set of deliveries, and never decrease."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.delivery import Delivery
from tests.support import strategies
from tests.support.memory import Memory, named, totals
from tests.support.worlds import World, worlds

LARGE_MACOS_PRICE = 102_000
"""GitHub's price of the runners in these worlds, in millionths of a US dollar per minute."""

JOB_METRICS = ("promgithub_job_duration_seconds", "promgithub_job_queue_seconds")


def settled(batches: list[list[Delivery]]) -> Memory:
    """Count batches, then settle the pending increments. `Memory` checks that each batch only adds."""
    memory = Memory()
    for batch in batches:
        memory.count(batch)
    memory.settle()
    assert memory.unsettled() == []
    return memory


def observations(memory: Memory, metric: str) -> list[int]:
    return sorted(
        ms for ((m, _), ms), times in memory.tally.observations.items() if m.name == metric for _ in range(times)
    )


def anomalies(memory: Memory) -> dict[str, int]:
    return {labels[0]: n for (metric, labels), n in memory.tally.counts.items() if metric.name == "promgithub_anomaly"}


def amount(memory: Memory, metric: str) -> int:
    return sum(n for (m, _), n in memory.tally.counts.items() if m.name == metric)


def ends(memory: Memory) -> int:
    return sum(
        n
        for (metric, labels), n in memory.tally.counts.items()
        if metric.name == "promgithub_job_status" and labels[3] == "completed"
    )


@settings(max_examples=200)
@given(worlds())
def test_a_whole_history_counts_each_execution_once(world: World) -> None:
    memory = settled([[delivery] for delivery in world.deliveries])
    assert ends(memory) == world.ends
    assert observations(memory, "promgithub_job_queue_seconds") == sorted(world.queues)
    assert observations(memory, "promgithub_job_duration_seconds") == sorted(world.durations)
    assert anomalies(memory) == world.anomalies
    assert amount(memory, "promgithub_job_busy_seconds") == sum(world.durations)
    minutes = sum(max(1, math.ceil(milliseconds / 60_000)) for milliseconds in world.durations)
    assert amount(memory, "promgithub_job_billable_minutes") == minutes
    assert amount(memory, "promgithub_job_cost_usd") == minutes * LARGE_MACOS_PRICE
    assert amount(memory, "promgithub_job_flaky") == world.flaky


@settings(max_examples=200)
@given(st.data())
def test_consistent_deliveries_give_the_same_figures_in_any_order_with_any_left_out(data: st.DataObject) -> None:
    world = data.draw(worlds())
    kept = data.draw(st.lists(st.sampled_from(world.deliveries), unique_by=lambda d: d.id, min_size=1))
    chosen = data.draw(st.sampled_from([world.deliveries, kept]))
    straight = settled([[delivery] for delivery in chosen])
    shuffled = settled(data.draw(strategies.arrivals(chosen)))
    assert named(shuffled.tally) == named(straight.tally)


@settings(max_examples=200)
@given(st.data())
def test_contradictory_deliveries_give_the_same_totals_in_any_order(data: st.DataObject) -> None:
    deliveries = data.draw(strategies.delivery_sets())
    straight = settled([deliveries])
    shuffled = settled(data.draw(strategies.arrivals(deliveries)))
    assert totals(shuffled.tally) == totals(straight.tally)
