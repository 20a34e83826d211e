"""A real Prometheus keeps the exemplars of a running promgithub, and finds them by the queries of the dashboards."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.delivery import Delivery
from tests.support import builders
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher
from tests.support.servers.prometheus import PrometheusServer

SCRAPE_SECONDS = 1

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: promgithub, static_configs: [{{targets: ["{target}"]}}]}}]
"""

QUANTILE = "histogram_quantile(0.9, sum by (le) (rate({}_bucket[1h])))"
"""What panels of histograms ask for. Grafana asks for the exemplars of the same query."""

Exemplars = dict[str, list[tuple[float, Mapping[str, str]]]]
"""The value and labels of each exemplar, in the order of time, by the bound of its bucket."""


def deliveries(run_id: int, *, ago: int) -> list[Delivery]:
    """Return a run of 40 s, with a job that waited 3 s and ran 20 s, which ended some seconds ago."""
    end = int(time.time()) - ago - builders.START.timestamp()
    times: dict[str, Any] = {"created": end - 23, "started": end - 20, "completed": end}
    job = builders.job(10 * run_id, run_id=run_id, status="completed", conclusion="success", runner=5, **times)
    run = builders.run(run_id, status="completed", conclusion="success", began=end - 40, updated=end)
    return [builders.delivery(job), builders.delivery(run)]


async def exemplars(prometheus: PrometheusServer, histogram: str) -> Exemplars:
    """Return the exemplars of a histogram, of the last and the next minutes."""
    now = time.time()
    query = QUANTILE.format(histogram)
    found: Any = await prometheus.api("query_exemplars", query=query, start=str(now - 600), end=str(now + 600))
    assert all(series["seriesLabels"]["repository"] == "acme/gears" for series in found)
    return {
        series["seriesLabels"]["le"]: [(float(one["value"]), one["labels"]) for one in series["exemplars"]]
        for series in found
    }


async def test_prometheus_finds_the_run_and_job_behind_a_quantile(
    launcher: Launcher, tmp_path: Path, github: GitHub
) -> None:
    standalone = launcher.start(
        "standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET, NEW_SERIES_SECONDS="0"
    )
    await standalone.ready()
    target = standalone.admin_url.removeprefix("http://")
    async with PrometheusServer(CONFIG.format(target=target), features=["exemplar-storage"]) as prometheus:

        async def come(number: int) -> bool | None:
            kept = [await exemplars(prometheus, f"promgithub_{name}_seconds") for name in ("job_queue", "job_duration")]
            kept.append(await exemplars(prometheus, "promgithub_workflow_duration_seconds"))
            return all(sum(map(len, by_bound.values())) >= number for by_bound in kept) or None

        await github.send_all(standalone, deliveries(7, ago=3))
        await until(lambda: come(1), 30)
        await github.send_all(standalone, deliveries(8, ago=1))
        await until(lambda: come(2), 30)

        seven, eight = ({"job_id": f"{run}0", "run_id": str(run)} for run in (7, 8))
        assert await exemplars(prometheus, "promgithub_job_queue_seconds") == {"5.0": [(3, seven), (3, eight)]}
        assert await exemplars(prometheus, "promgithub_job_duration_seconds") == {"30.0": [(20, seven), (20, eight)]}
        runs = [(40, {"run_id": run}) for run in ("7", "8")]
        assert await exemplars(prometheus, "promgithub_workflow_duration_seconds") == {"60.0": runs}

        # A delivery that comes late does not take the place of a newer one.
        await github.send_all(standalone, deliveries(9, ago=30))
        await github.drained(standalone, processed=6)
        await asyncio.sleep(3 * SCRAPE_SECONDS)
        assert await exemplars(prometheus, "promgithub_workflow_duration_seconds") == {"60.0": runs}
        own = await prometheus.own_metrics()
        assert "prometheus_tsdb_exemplar_out_of_order_exemplars_total 0" in own
        assert "prometheus_target_scrapes_exemplar_out_of_order_total 0" in own
