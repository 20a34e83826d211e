"""compose.yaml, brought up by its documented command: it counts the truth, whatever is killed, restarted or replaced.

The tests share one installation and run in this order. Each leaves it healthy.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.containers.simulating import SIMULATION_SECONDS, simulate, under_load
from tests.support.deployment import ROOT
from tests.support.docker import Installation, docker, get, inspect, until_true

pytestmark = pytest.mark.timeout(900)

OURS = ("ingest", "processor")
POSTGRES_AWAY_SECONDS = 8.0
COMPOSE: Any = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_every_service_becomes_healthy_by_the_documented_command(
    installation: Installation, services: list[str]
) -> None:
    for service in services:
        if service != "migrate":
            installation.wait_healthy(service)
            assert installation.containers(service)
    assert len(installation.containers("processor")) == 2
    assert inspect(installation.container("migrate"))["State"]["ExitCode"] == 0


def test_every_container_is_confined(installation: Installation, services: list[str]) -> None:
    for service in services:
        if service == "migrate":
            continue
        container = installation.container(service)
        lines = docker("exec", container, "cat", "/proc/1/status").stdout.splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert int(status["CapEff"], 16) == 0, service
        assert int(status["CapBnd"], 16) == 0, service
        assert status["NoNewPrivs"] == "1", service
        assert "0" not in status["Uid"].split(), service
        assert docker("exec", container, "sh", "-c", "echo >/etc/written", status=None).returncode != 0, service
        limit = COMPOSE["services"][service]["deploy"]["resources"]["limits"]["memory"]
        assert inspect(container)["HostConfig"]["Memory"] == _bytes(limit), service


def _bytes(size: str) -> int:
    return int(size[:-1]) * {"M": 2**20, "G": 2**30}[size[-1]]


def test_the_demonstration_finds_every_figure_true(installation: Installation) -> None:
    shown = installation.compose("run", "--rm", "simulator", within=SIMULATION_SECONDS).stdout
    assert re.search(r"^All \d+ figures equal the truth", shown, re.MULTILINE), shown


def test_prometheus_loads_the_rules_and_scrapes_the_receiver_and_both_processors(installation: Installation) -> None:
    def scraped() -> bool:
        targets = json.loads(get("http://127.0.0.1:9090/api/v1/targets"))["data"]["activeTargets"]
        jobs = sorted(target["labels"]["job"] for target in targets if target["health"] == "up")
        return jobs == ["promgithub-ingest", "promgithub-processor", "promgithub-processor"]

    until_true(scraped, "three targets are up")
    groups = json.loads(get("http://127.0.0.1:9090/api/v1/rules"))["data"]["groups"]
    assert {rule["type"] for group in groups for rule in group["rules"]} == {"recording", "alerting"}
    assert [rule for group in groups for rule in group["rules"] if rule.get("lastError")] == []
    query = "http://127.0.0.1:9090/api/v1/query?query=sum(promgithub_workflow_status_total)"
    until_true(lambda: json.loads(get(query))["data"]["result"], "Prometheus has the figures about CI")


def crash_processors(installation: Installation) -> None:
    for number in (1, 2):
        installation.crash("processor", number)


def crash_the_receiver(installation: Installation) -> None:
    installation.crash("ingest")


def restart_rabbitmq(installation: Installation) -> None:
    installation.compose("restart", "rabbitmq")


def stop_postgres_for_a_while(installation: Installation) -> None:
    installation.compose("stop", "postgres")
    time.sleep(POSTGRES_AWAY_SECONDS)
    installation.compose("start", "postgres")


def test_the_figures_are_true_after_crashes_restarts_and_outages_under_load(installation: Installation) -> None:
    faults: list[Callable[[Installation], None]] = [
        crash_processors,
        crash_the_receiver,
        restart_rabbitmq,
        stop_postgres_for_a_while,
    ]
    with under_load(installation, deliveries=1500, rate=60):
        for fault in faults:
            fault(installation)
    installation.wait_healthy("rabbitmq", "postgres", *OURS)


def test_a_killed_receiver_is_back_with_the_next_up(installation: Installation, services: list[str]) -> None:
    docker("kill", installation.container("ingest"))
    installation.up(*services)
    installation.wait_healthy(*OURS)


def test_a_third_processor_joins_and_the_figures_stay_true(installation: Installation) -> None:
    scale(installation, 3)
    installation.wait_healthy("processor")
    assert len(installation.containers("processor")) == 3
    simulate(installation, 3, "--deliveries=300", "--seed=3")
    scale(installation, 2)


def scale(installation: Installation, processors: int) -> None:
    options = ("--detach", "--wait", "--no-recreate", "--scale", f"processor={processors}")
    installation.compose("up", *options, "processor", within=SIMULATION_SECONDS)


def test_an_upgrade_to_a_rebuilt_image_keeps_every_figure(
    installation: Installation, services: list[str], image: str
) -> None:
    before, running = installation.figures(), inspect(installation.container("processor"))["Image"]
    rebuilt = f"FROM {image}\nLABEL rebuilt=1\n"
    newer = subprocess.run(
        ["docker", "build", "-t", image, "-"], input=rebuilt, capture_output=True, text=True, check=False
    )
    assert newer.returncode == 0, newer.stderr

    installation.compose("up", "--detach", "--wait", *services, within=SIMULATION_SECONDS)

    for service in OURS:
        assert inspect(installation.container(service))["Image"] != running, service
    installation.wait_healthy(*OURS)
    assert installation.figures() == before


def test_sigterm_ends_each_role_within_the_grace_period(installation: Installation, services: list[str]) -> None:
    containers = [name for service in OURS for name in installation.containers(service)]
    installation.compose("stop", *OURS)
    assert {name: inspect(name)["State"]["ExitCode"] for name in containers} == dict.fromkeys(containers, 0)
    installation.compose("start", *OURS)
    installation.wait_healthy(*OURS)


def test_down_and_up_keep_every_figure(installation: Installation, services: list[str]) -> None:
    before = installation.figures()
    assert before

    installation.compose("down")
    assert installation.compose("ps", "--all", "--quiet").stdout == ""
    installation.up(*services)

    assert installation.figures() == before
    simulate(installation, 2, "--deliveries=200", "--seed=9")
