"""The Alertmanager example, in a real Alertmanager: who receives which alert, and which alert suppresses another."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from tests.support.deployment import ROOT
from tests.support.github import until
from tests.support.servers.alertmanager import Alertmanager, installed
from tests.support.servers.ports import free_port

CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"
TOKEN = "t0ken"

SOON = 30.0
"""How long Alertmanager has for what it does within a second or two, in seconds."""

Labels = frozenset[tuple[str, str]]


def labels(name: str, severity: str = "warning", **others: str) -> Labels:
    return frozenset({"alertname": name, "severity": severity, **others}.items())


def of_the_rules() -> dict[Labels, Mapping[str, str]]:
    """Return the annotations of each alert that the cases of the rules expect, which promtool proves, by its labels."""
    found = {}
    for file in sorted((ROOT / "deploy/prometheus/tests").glob("*.yml")):
        for case in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for tested in case.get("alert_rule_test", ()):
                for alert in tested.get("exp_alerts") or ():
                    key = frozenset({"alertname": tested["alertname"], **alert["exp_labels"]}.items())
                    found[key] = alert["exp_annotations"]
    return found


ALERTS = of_the_rules()

OTHERS = {
    labels("PromgithubDown", "critical", job="promgithub-processor"),
    labels("PromgithubTargetDown", job="promgithub-standalone", instance="standalone:8081"),
    labels("PromgithubRunnerClassWaitsLong", runner_class="arm", job_status="queued"),
}
"""Alerts that the rules can raise, and that no case has."""

INGEST, PROCESSOR = {"job": "promgithub-ingest"}, {"job": "promgithub-processor"}

EXPLAINED = {
    labels("PromgithubTargetDown", **INGEST, instance="ingest-1:8081"),
    labels("PromgithubNoLeader", "critical"),
    labels("PromgithubRefusing", "critical", **INGEST, outcome="broker_down"),
    labels("PromgithubBrokerDown", **INGEST, instance="ingest-1:8081"),
    labels("PromgithubBrokerDown", **PROCESSOR, instance="processor-1:8082"),
    *(labels("PromgithubDeliveriesRefused", outcome=outcome) for outcome in ("broker_down", "queue_full", "shed")),
    labels("PromgithubProcessingFailures"),
    labels("PromgithubLagging", **PROCESSOR),
    labels("PromgithubRunnerClassWaitsLong", runner_class="gpu", job_status="queued"),
}
"""Of `ALERTS` and `OTHERS`, together, those that another one explains."""


class Receivers:
    """An HTTP server instead of Slack and of the on-call service. It keeps what it receives."""

    def __init__(self) -> None:
        self.port = free_port()
        self.slack: list[Any] = []
        self.on_call: list[Any] = []
        application = web.Application()
        application.add_routes([web.post("/slack", self._take_slack), web.post("/on-call", self._take_call)])
        self.runner = web.AppRunner(application)

    async def _take_slack(self, request: web.Request) -> web.Response:
        self.slack += (await request.json())["attachments"]
        return web.Response(text="ok")

    async def _take_call(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        self.on_call += (await request.json())["alerts"]
        return web.Response()


@pytest_asyncio.fixture
async def receivers() -> AsyncIterator[Receivers]:
    made = Receivers()
    await made.runner.setup()
    await web.TCPSite(made.runner, "127.0.0.1", made.port).start()
    yield made
    await made.runner.cleanup()


@pytest_asyncio.fixture
async def alertmanager(receivers: Receivers, tmp_path: Path) -> AsyncIterator[Alertmanager]:
    """Give an Alertmanager with the example, told where its receivers are and not to wait for long."""
    (tmp_path / "slack-url").write_text(f"http://127.0.0.1:{receivers.port}/slack")
    (tmp_path / "on-call-token").write_text(TOKEN)
    config = CONFIG.read_text("utf-8")
    for old, new in {
        "/etc/alertmanager": str(tmp_path),
        "https://on-call.example.com/alertmanager": f"http://127.0.0.1:{receivers.port}/on-call",
        "group_wait: 30s": "group_wait: 1s",
        "group_wait: 10s": "group_wait: 1s",
        "group_interval: 5m": "group_interval: 1s",
    }.items():
        assert old in config
        config = config.replace(old, new)
    async with Alertmanager(config) as started:
        yield started


def amtool(*arguments: str) -> str:
    """Run amtool; return what it prints. Fails with what it says."""
    command = [installed("amtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in amtool("check-config", str(CONFIG))


@pytest.mark.parametrize(("severity", "told"), [("critical", "on-call,slack"), ("warning", "slack")])
def test_the_severity_says_who_is_told(severity: str, told: str) -> None:
    assert amtool("config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}").strip() == told


def test_every_alert_that_is_named_exists() -> None:
    existing = {name for alert in ALERTS for key, name in alert if key == "alertname"}
    matchers = json.dumps(yaml.safe_load(CONFIG.read_text("utf-8"))["inhibit_rules"])
    named = {word for word in matchers.replace("|", '"').replace("\\", '"').split('"') if word.startswith("Promgithub")}
    assert named
    assert named <= existing


async def test_an_alert_that_another_explains_is_silent_and_all_others_reach_whom_they_concern(
    alertmanager: Alertmanager, receivers: Receivers
) -> None:
    raised = {alert: ALERTS.get(alert, {}) for alert in (*ALERTS, *OTHERS)}
    await alertmanager.fire({"labels": dict(alert), "annotations": notes} for alert, notes in raised.items())

    silent: set[Labels] = set()

    async def all_explained() -> bool | None:
        states = {frozenset(one["labels"].items()): one["status"]["state"] for one in await alertmanager.alerts()}
        silent.clear()
        silent.update(alert for alert, state in states.items() if state == "suppressed")
        return (states.keys() == raised.keys() and silent == EXPLAINED) or None

    with suppress(TimeoutError):
        await until(all_explained, SOON)
    assert silent == EXPLAINED

    loud = raised.keys() - EXPLAINED
    critical = {alert for alert in loud if ("severity", "critical") in alert}

    async def all_called() -> bool | None:
        return critical <= {frozenset(one["labels"].items()) for one in receivers.on_call} or None

    async def all_shown() -> bool | None:
        return titles(loud) <= {one["title"] for one in receivers.slack} or None

    await until(all_called, SOON)
    await until(all_shown, SOON)
    assert {one["labels"]["severity"] for one in receivers.on_call} == {"critical"}
    shown = next(one["text"] for one in receivers.slack if one["title"].startswith("PromgithubAcksSlow "))
    notes = ALERTS[labels("PromgithubAcksSlow", **INGEST)]
    assert notes["summary"] in shown
    assert f"<{notes['runbook_url']}|What to do>" in shown


def titles(alerts: Iterable[Labels]) -> set[str]:
    """Return the titles of the messages in Slack about alerts."""
    return {"{alertname} ({severity}, firing)".format_map(dict(alert)) for alert in alerts}
