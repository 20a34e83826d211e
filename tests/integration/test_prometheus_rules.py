"""The rules for Prometheus are valid, work as described, and refer to the runbook."""

import asyncio
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus_rule import RUNBOOK, UPSTREAM_NAMES
from processor.counting.catalogue import CATALOGUE
from promgithub.reference import TABLES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy/prometheus"
CONFIGS = ("prometheus.yml", "compose.yml")
PODMONITORS = "deploy/kubernetes/components/monitoring/podmonitors.yaml"

Rule = dict[str, Any]
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|", re.MULTILINE)
_NO_METRIC = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)')
_NAME = re.compile(r"(?<![\w:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_OF_PROMETHEUS = {"up", "process_start_time_seconds"}
_OPERATORS = {"and", "or", "unless", "offset"}


@cache
def rules(kind: str) -> list[Rule]:
    pages = (yaml.safe_load(path.read_text("utf-8")) for path in sorted(DEPLOY.glob("*.rules.yml")))
    return [rule for page in pages for group in page["groups"] for rule in group["rules"] if kind in rule]


def metrics_in(expression: str) -> set[str]:
    """Return the names of the metrics that a PromQL expression selects."""
    return set(_NAME.findall(_NO_METRIC.sub(" ", expression))) - _OPERATORS


def documented() -> Iterator[str]:
    """Yield every name that a series of promgithub can have."""
    for table in TABLES.values():
        for name, kind in _ROW.findall(table()):
            yield name
            if kind == "histogram":
                yield from (f"{name}_{part}" for part in ("bucket", "sum", "count"))


def runbook() -> dict[str, str]:
    """Return the sections of the runbook by their anchors, as GitHub makes them."""
    _, *sections = re.split(r"^## ", (ROOT / "docs/runbook.md").read_text("utf-8"), flags=re.MULTILINE)
    titles = ((section.partition("\n")[0], section) for section in sections)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-"): section for title, section in titles}


@cache
def shown() -> dict[str, set[bool]]:
    """Return for each alert and record whether there are cases in which it fires or records, and in which not."""
    found: dict[str, set[bool]] = defaultdict(set)
    for path in DEPLOY.glob("tests/*.yml"):
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for alert in case.get("alert_rule_test", ()):
                found[alert["alertname"]].add(bool(alert["exp_alerts"]))
            for query in case.get("promql_expr_test", ()):
                for record in metrics_in(query["expr"]):
                    found[record].add(bool(query["exp_samples"]))
    return found


async def run(*command: str) -> None:
    """Run promtool where the rules are; fails with what it says."""
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=DEPLOY, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_promtool_accepts_the_configuration(promtool: str) -> None:
    for config in CONFIGS:
        await run(promtool, "check", "config", config)


@pytest.mark.parametrize("form", [{"promgithub-standalone"}, {"promgithub-ingest", "promgithub-processor"}], ids=sorted)
async def test_the_jobs_of_one_form_can_be_deleted_as_the_configuration_says(
    promtool: str, tmp_path: Path, form: set[str]
) -> None:
    head, *jobs = re.split(r"(?m)^(?=  - job_name: )", (DEPLOY / "prometheus.yml").read_text("utf-8"))
    kept = [job for job in jobs if job.split()[2] in form]
    assert len(kept) == len(form) < len(jobs)
    config = tmp_path / "prometheus.yml"
    config.write_text(head + "".join(kept), "utf-8")
    await run(promtool, "check", "config", "--syntax-only", str(config))


async def test_promtool_accepts_the_rules(promtool: str) -> None:
    await run(promtool, "check", "rules", "--lint-fatal", *(path.name for path in sorted(DEPLOY.glob("*.rules.yml"))))


async def test_every_rule_does_what_its_cases_say(promtool: str) -> None:
    await run(promtool, "test", "rules", *(str(path) for path in sorted(DEPLOY.glob("tests/*.yml"))))


@pytest.mark.parametrize("configuration", ["prometheus.yml", "compose.yml"])
def test_all_rules_are_in_the_configuration_but_the_upstream_names(configuration: str) -> None:
    named = yaml.safe_load((DEPLOY / configuration).read_text("utf-8"))["rule_files"]
    every = {path.name for path in DEPLOY.glob("*.rules.yml")}
    assert set(named) == every - {f"{UPSTREAM_NAMES}.rules.yml"}


@pytest.mark.parametrize(
    "name", [rule.get("alert") or rule["record"] for kind in ("alert", "record") for rule in rules(kind)]
)
def test_a_rule_has_a_case_of_each_kind(name: str) -> None:
    assert shown()[name] == {True, False}


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_it_is_and_leads_to_its_section_of_the_runbook(rule: Rule) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    base, _, anchor = rule["annotations"]["runbook_url"].rpartition("#")
    assert base == RUNBOOK
    assert f"`{rule['alert']}`" in runbook()[anchor]


def test_the_runbook_names_only_alerts_that_there_are() -> None:
    named = re.findall(r"`(Promgithub\w+)`", (ROOT / "docs/runbook.md").read_text("utf-8"))
    assert set(named) == {rule["alert"] for rule in rules("alert")}


def questions() -> str:
    """Return the page of questions."""
    return (ROOT / "docs/questions.md").read_text("utf-8")


async def test_the_queries_that_answer_questions_are_valid_and_select_only_what_exists(
    promtool: str, tmp_path: Path
) -> None:
    blocks = re.findall(r"(?ms)^```promql\n(.*?)^```", questions())
    lines = re.sub(r"(?m) *#.*$", "", "".join(blocks))
    queries = [query for query in re.split(r"\n(?=\w)", lines) if query.strip()]
    assert queries
    assert set().union(*map(metrics_in, queries)) <= {*documented(), *(rule["record"] for rule in rules("record"))}
    file = tmp_path / "questions.yml"
    records = [{"record": f"question:{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": records}]}), "utf-8")
    await run(promtool, "check", "rules", str(file))


def test_the_page_of_questions_names_only_alerts_that_there_are() -> None:
    named = set(re.findall(r"`(Promgithub\w+)`", questions()))
    assert named
    assert named <= {rule["alert"] for rule in rules("alert")}


@pytest.mark.parametrize(
    "rule", [*rules("alert"), *rules("record")], ids=lambda rule: str(rule.get("alert") or rule["record"])
)
def test_an_expression_selects_only_metrics_that_exist(rule: Rule) -> None:
    selected = metrics_in(rule["expr"])
    assert selected
    assert selected <= {*documented(), *(record["record"] for record in rules("record")), *_OF_PROMETHEUS}


@pytest.mark.parametrize("rule", rules("record"), ids=lambda rule: str(rule["record"]))
def test_no_record_is_a_sum_of_counters(rule: Rule) -> None:
    counters = "|".join(name for name in documented() if name.endswith(("_total", "_bucket", "_sum", "_count")))
    added = re.search(rf"\b(?:{counters})\b(?:\{{[^}}]*\}})?(?!\[|\{{)", rule["expr"])
    assert not added or not re.search(r"\b(?:sum|avg|count)\b", rule["expr"]), added


def test_no_record_takes_the_name_of_a_metric() -> None:
    records = [rule["record"] for rule in rules("record")]
    assert len(set(records)) == len(records)
    assert not {*records} & {*documented()}


def relabellings() -> dict[str, str]:
    """Return by job of Prometheus, in whatever form it is configured, which metrics lose what tells processes apart."""
    found = {}
    for name in CONFIGS:
        for job in yaml.safe_load((DEPLOY / name).read_text("utf-8"))["scrape_configs"]:
            for config in job.get("metric_relabel_configs", ()):
                found[f"{name} {job['job_name']} {config['target_label']}"] = config["regex"]
    for monitor in yaml.safe_load_all((ROOT / PODMONITORS).read_text("utf-8")):
        for config in monitor["spec"]["podMetricsEndpoints"][0].get("metricRelabelings", ()):
            found[f"{PODMONITORS} {monitor['metadata']['name']} {config['targetLabel']}"] = config["regex"]
    return found


def test_metrics_of_the_store_and_no_others_lose_what_tells_processors_apart() -> None:
    found = relabellings()
    assert set(found) == {
        "prometheus.yml promgithub-standalone instance",
        "prometheus.yml promgithub-processor instance",
        "compose.yml promgithub-processor instance",
        f"{PODMONITORS} promgithub-processor instance",
        f"{PODMONITORS} promgithub-processor pod",
    }
    (store,) = set(found.values())
    exposed = {name for name in documented() if re.fullmatch(store, name)}
    of_leader = (*(metric.name for metric in CATALOGUE), "promgithub_runners")
    assert exposed == {name for name in documented() if name.startswith(of_leader)}
