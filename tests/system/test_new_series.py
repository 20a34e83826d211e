"""A live Prometheus sees the first failure of a workflow, although the leader is killed while the series is held."""

import asyncio
import time
from collections.abc import Callable

import pytest

from shared.delivery import Delivery
from tests.support import builders, figures
from tests.support.github import GitHub, until
from tests.support.processes import Process
from tests.support.servers.prometheus import PrometheusServer

HELD_FOR = 20
"""Longer than a takeover and two scrapes, in seconds."""

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: promgithub-processor
    static_configs: [{{targets: [{targets}]}}]
    metric_relabel_configs:
      - source_labels: [__name__]
        regex: promgithub_(workflow|series_held).*
        target_label: instance
        replacement: ""
"""

FAILURES = 'promgithub_workflow_status_total{workflow_status="completed",conclusion="failure"}'
SINCE = "5m"

Start = Callable[..., Process]


def failure(run_id: int) -> Delivery:
    return builders.delivery(builders.run(run_id, status="completed", conclusion="failure", began=0, updated=90))


async def value(prometheus: PrometheusServer, query: str, at: float | None = None) -> float | None:
    """Return the value of a query that finds at most one series, now or at a moment (Unix seconds)."""
    found = (await prometheus.api("query", query=query, time=str(at or time.time())))["result"]
    assert len(found) <= 1, found
    return float(found[0]["value"][1]) if found else None


async def comes_to(prometheus: PrometheusServer, query: str, expected: float, within: float) -> None:
    async def does() -> bool | None:
        return await value(prometheus, query) == expected or None

    await until(does, within)


async def leader_of(github: GitHub, processors: list[Process]) -> Process | None:
    for processor in processors:
        if figures.total(await github.figures(processor), "promgithub_exporter_leader") == 1:
            return processor
    return None


@pytest.mark.drill
async def test_increase_counts_the_first_failures_of_a_workflow_across_a_change_of_leader(
    start_receiver: Start, start_processor: Start, github: GitHub
) -> None:
    receiver = start_receiver()
    processors = [start_processor(NEW_SERIES_SECONDS=str(HELD_FOR)) for _ in range(2)]
    await asyncio.gather(receiver.ready(), *(processor.ready() for processor in processors))
    targets = ",".join(f'"{processor.admin_url.removeprefix("http://")}"' for processor in processors)
    async with PrometheusServer(CONFIG.format(targets=targets)) as prometheus:
        leader = await until(lambda: leader_of(github, processors), 30)
        assert await github.send(receiver, failure(1)) == 202
        await comes_to(prometheus, FAILURES, 0, 30)
        seen_by_others = figures.total(await github.figures(leader), "promgithub_workflow_status_total")
        assert seen_by_others == 1

        await leader.kill()
        assert await github.send(receiver, failure(2)) == 202
        await comes_to(prometheus, FAILURES, 2, 120)
        assert await github.send(receiver, failure(3)) == 202
        await comes_to(prometheus, FAILURES, 3, 60)

        now = time.time()
        increase = await value(prometheus, f"increase({FAILURES}[{SINCE}])", now)
        samples = await value(prometheus, f"count_over_time({FAILURES}[{SINCE}])", now)
        assert increase is not None
        assert samples is not None
        # Prometheus extrapolates by at most 1.1 mean distances of samples.
        assert 3 <= round(increase, 6) <= 3 * (1 + 1.1 / (samples - 1))
        assert await value(prometheus, f"max_over_time(promgithub_series_held[{SINCE}])") == 2
