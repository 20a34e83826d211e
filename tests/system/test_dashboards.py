"""Every query of the dashboards and rules, on a real Prometheus that has scraped a real run.

A query that Prometheus refuses fails, and so does one that no longer finds what it asks for: a metric or label that is
misspelt, or that was renamed in the code.
"""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from promgithub.simulation.histories import Historian
from shared.delivery import Delivery
from tests.support import builders
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import Launcher
from tests.support.promql import filled, grouped_by, made_by, selectors, with_labels
from tests.support.servers.errors import MissingServerError, PrometheusError
from tests.support.servers.prometheus import PrometheusServer

ROOT = Path(__file__).parents[2]
DASHBOARDS = {
    file.stem: json.loads(file.read_text("utf-8")) for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")
}
RULES = sorted((ROOT / "deploy/prometheus").glob("*.rules.yml"))

NEVER_IN_A_HEALTHY_RUN = {
    "promgithub_stale_total": "nothing stays open for days",
    "promgithub_recovery_last_success_timestamp_seconds": "there is no token for GitHub's API",
    "promgithub_runners": "there is no token for GitHub's API",
}
"""Metrics without a series after the run, and why: queries of these are held to docs/metrics.md instead."""

EMPTY_RECORDS = {"instance:promgithub_spooling:ratio": "no receiver is without its broker"}
"""Records without a series after the run, and why."""

RANGE = "2m"
"""Longer than the run takes."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrometheusServer]:
    """Give a Prometheus that has scraped a standalone promgithub before, during and after a simulation."""
    directory = tmp_path_factory.mktemp("dashboards")
    launcher = Launcher(directory)
    standalone = launcher.start(
        "standalone",
        "--data-dir",
        str(directory / "data"),
        WEBHOOK_SECRET=SECRET,
        NEW_SERIES_SECONDS="2",
        LABELS="job_name",
    )
    try:
        server = PrometheusServer(config(standalone.admin_url.removeprefix("http://"), directory))
    except MissingServerError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        async with server, GitHub() as github:
            await standalone.ready()
            deliveries = Historian(51).history(4000).deliveries
            sent = 0
            # Interleaved, so that what begins with the first half grows with the second.
            for half in (deliveries[::2], deliveries[1::2]):
                await github.send(standalone, half[0], secret="forged")
                await github.send(standalone, undecodable())
                sent += sum((await github.send_all(standalone, [*half, *half[:20], anomalous()])).values())
                await github.drained(standalone, processed=sent)
                await until(lambda: scraped(server, sent), 60)  # noqa: B023 - it is awaited at once
            await until(lambda: released(server), 60)
            yield server
    finally:
        launcher.close()


def config(target: str, directory: Path) -> str:
    """Return a configuration that scrapes often, with all rules, which are evaluated as often."""
    for file in RULES:
        (directory / file.name).write_text(re.sub(r"(?m)^ +interval:.*$", "", file.read_text("utf-8")), "utf-8")
    return f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{directory}/*.rules.yml"]
scrape_configs: [{{job_name: promgithub, static_configs: [{{targets: ["{target}"]}}]}}]
"""


def undecodable() -> Delivery:
    return builders.delivery({"workflow_job": {"id": "one"}}, event="workflow_job")


def anomalous() -> Delivery:
    """Return a push with as many commits as GitHub lists at most: an anomaly that is counted at once."""
    return builders.delivery(builders.push(2048))


async def scraped(prometheus: PrometheusServer, sent: int) -> bool | None:
    """Tell whether Prometheus has seen that everything sent was counted, or dropped as a duplicate."""
    names = "promgithub_event_processed_total|promgithub_duplicate_deliveries_dropped_total"
    return (await prometheus.api("query", query=f'sum({{__name__=~"{names}"}}) == {sent}'))["result"] != [] or None


async def released(prometheus: PrometheusServer) -> bool | None:
    """Tell whether Prometheus has seen that no series is held, so that it has the value of each."""
    query = "promgithub_series_held == 0 and max_over_time(promgithub_series_held[1m]) > 0"
    return (await prometheus.api("query", query=query))["result"] != [] or None


async def complaints(prometheus: PrometheusServer, expr: str, legend: str = "") -> list[str]:
    """Return what is wrong with a query: refused, without data, or reading what there is not."""
    try:
        found = (await prometheus.api("query", query=expr))["result"]
    except PrometheusError as error:
        return [str(error)]
    wrong = await unread(prometheus, expr)
    read = {selector.partition("{")[0] for selector in selectors(expr)}
    if read.isdisjoint(NEVER_IN_A_HEALTHY_RUN):
        if not any(math.isfinite(float(series["value"][1])) for series in found):
            wrong.append("no data")
        labels = set(re.findall(r"{{(\w+)}}", legend))
        wrong += [f"a series without {label}" for series in found for label in labels - series["metric"].keys()]
    return wrong


async def unread(prometheus: PrometheusServer, expr: str) -> list[str]:
    """Return what a query reads and Prometheus does not have: series with such labels, or labels at all."""
    known = {*await prometheus.api("labels"), *(label for labels in declared().values() for label in labels)}
    wrong = [f"no label {label}" for label in grouped_by(expr) - made_by(expr) - known]
    for selector in map(with_labels, selectors(expr)):
        name, _, matchers = selector.partition("{")
        if name in EMPTY_RECORDS:
            continue
        if name in NEVER_IN_A_HEALTHY_RUN:
            absent = set(re.findall(r"\w+", matchers)) - declared()[name]
            wrong += [f"{name} has no label {label}" for label in absent]
        elif not (await prometheus.api("query", query=f"last_over_time({selector}[{RANGE}])"))["result"]:
            wrong.append(f"nothing is {selector}")
    return wrong


def declared() -> dict[str, set[str]]:
    """Return the labels of each metric, from the reference, which is made from the code."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| \w+ \| ([\w, ]*) \|", (ROOT / "docs/metrics.md").read_text("utf-8"))
    return {name: set(re.findall(r"\w+", labels)) for name, labels in rows}


async def values(prometheus: PrometheusServer, dashboard: Mapping[str, Any]) -> dict[str, str]:
    """Return a value for each variable: everything, or of a single choice the first, as Grafana does."""
    chosen = {"__rate_interval": RANGE, "__range": RANGE}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "interval":
            chosen[variable["name"]] = RANGE
        elif variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert query, variable
            there = await prometheus.api(f"label/{query[2]}/values", **{"match[]": filled(query[1], chosen)})
            assert there, f"no value of {variable['name']}"
            chosen[variable["name"]] = variable.get("allValue", there[0])
    return chosen


def panels(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the title, expression and legend of every query."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            legend = "" if panel["type"] == "table" else target["legendFormat"]
            yield panel["title"], target["expr"], legend


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
async def test_every_query_of_a_dashboard_finds_data(name: str, prometheus: PrometheusServer) -> None:
    dashboard = DASHBOARDS[name]
    chosen = await values(prometheus, dashboard)
    queries = [(title, filled(expr, chosen), legend) for title, expr, legend in panels(dashboard)]
    found = await asyncio.gather(*(complaints(prometheus, expr, legend) for _, expr, legend in queries))
    wrong = {query[:2]: problems for query, problems in zip(queries, found, strict=True) if problems}
    assert not wrong


async def test_every_rule_can_be_evaluated_and_finds_what_it_reads(prometheus: PrometheusServer) -> None:
    groups = (await prometheus.api("rules"))["groups"]
    assert len({group["file"] for group in groups}) == len(RULES)
    wrong = {}
    for rule in (rule for group in groups for rule in group["rules"]):
        # An alert finds nothing while all is well, but what it looks at is there.
        judge = complaints if rule["type"] == "recording" and rule["name"] not in EMPTY_RECORDS else unread
        problems = await judge(prometheus, rule["query"])
        if error := rule.get("lastError"):
            problems.append(error)
        if problems:
            wrong[rule["name"]] = problems
    assert not wrong


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("sum(promgithub_job_queued", "parse error"),
        ("sum(promgithub_jobs_queued) or vector(0)", "nothing is promgithub_jobs_queued"),
        ('sum(promgithub_job_queued{branches=~".*"})', 'nothing is promgithub_job_queued{branches!=""}'),
        ('promgithub_event_retries_total{cause!~"a", kind!="b"}', "nothing is promgithub_event_retries_total"),
        ("sum by (repo) (promgithub_job_queued)", "no label repo"),
        ("sum by (branch) (promgithub_job_queued)", "a series without repository"),
        ("promgithub_job_queued > 1e9", "no data"),
        ('promgithub_stale_total{why="b"}', "promgithub_stale_total has no label why"),
    ],
)
async def test_a_broken_query_is_found(query: str, problem: str, prometheus: PrometheusServer) -> None:
    legend = "{{repository}}" if "by (branch)" in query else ""
    assert problem in "; ".join(await complaints(prometheus, query, legend))
