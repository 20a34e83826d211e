"""Checks of compose.yaml that need no Docker engine."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import parse_duration
from tests.support.deployment import PORTS, ROLE_OF_COMMAND, ROOT, SHUTDOWN_SECONDS, parse, problems
from tests.support.docker import WAIT_TIMEOUT

CHECK = Path(sys.executable).with_name("check-jsonschema")
FILE = ROOT / "compose.yaml"
TEXT = FILE.read_text("utf-8")
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _variables_of(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


DEMO = _variables_of("demo.env")


def _value(match: re.Match[str]) -> str:
    name, operator, text = match.groups()
    return DEMO[name] if operator != "-" else DEMO.get(name, text)


COMPOSE: Mapping[str, Any] = yaml.safe_load(_VARIABLE.sub(_value, TEXT))
SERVICES: Mapping[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONE_SHOT = {"migrate", "simulator"}


def _mounts(service: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [tuple(mount.split(":")[:2]) for mount in service.get("volumes", ())]


def test_compose_yaml_matches_the_compose_specification() -> None:
    checked = subprocess.run(
        [CHECK, "--builtin-schema", "vendor.compose-spec", FILE], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_nothing_has_a_password_unless_someone_chose_it() -> None:
    variables = _VARIABLE.findall(TEXT)
    required = {name for name, operator, _ in variables if operator == "?"}
    assert {name for name, *_ in variables if re.search("PASS|SECRET", name)} == required
    assert all(operator == "?" for name, operator, _ in variables if name in required)
    assert required == set(_variables_of(".env.example"))
    assert not any(_variables_of(".env.example").values())
    assert required == set(DEMO) - {"COMPOSE_PROJECT_NAME"}
    written = re.findall(r"^\s+\w*(?:PASS|SECRET)\w*: (.*)$", TEXT, re.MULTILINE)
    assert len(written) == 5
    assert all(value.startswith("${") for value in written)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_and_take_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) >= {"cpus", "memory"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), "published to the whole network"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_come(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        assert wanted["condition"] == ("service_completed_successfully" if other in ONE_SHOT else "service_healthy")
    assert ("test" in SERVICES[name]["healthcheck"]) == (name not in ONE_SHOT)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_mounts_exists(name: str) -> None:
    for source, _ in _mounts(SERVICES[name]):
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


def test_every_volume_is_used() -> None:
    assert {source for service in SERVICES.values() for source, _ in _mounts(service)} >= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_each_of_our_services_runs_an_existing_command_with_existing_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = OURS[name]
    command = service["command"]
    assert parse(command) is not None
    if command[0] in ROLE_OF_COMMAND:
        assert list(problems(service["environment"], command[0], monkeypatch)) == []
    assert parse_duration(service["stop_grace_period"]).total_seconds() > SHUTDOWN_SECONDS


def test_the_health_checks_ask_what_the_image_has() -> None:
    assert 'healthcheck.py", "/livez"]' in (ROOT / "Dockerfile").read_text("utf-8")
    for name in OURS.keys() - ONE_SHOT:
        assert OURS[name]["healthcheck"]["test"] == ["CMD", "python", "/opt/promgithub/healthcheck.py", "/readyz"]


def test_the_spool_is_on_a_volume() -> None:
    spool = Path(OURS["ingest"]["environment"]["PROMGITHUB_SPOOL_DIR"])
    assert any(spool.is_relative_to(target) for source, target in _mounts(OURS["ingest"]) if source == "spool")


def test_every_documented_command_that_waits_gives_up_when_the_tests_do() -> None:
    files = [FILE, *map(ROOT.joinpath, ("demo.env", "README.md")), *(ROOT / "docs").glob("*.md")]
    commands = [line for file in files for line in file.read_text("utf-8").splitlines() if "docker compose" in line]
    waiting = [line for line in commands if re.search(r" up\b.*--wait\b", line)]
    assert len(waiting) >= 6
    assert [line for line in waiting if f"--wait --wait-timeout {WAIT_TIMEOUT}" not in line] == []


def test_prometheus_keeps_exemplars() -> None:
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_the_simulator_asks_every_processor() -> None:
    asked = parse(OURS["simulator"]["command"])["metrics"]
    assert asked == [
        f"http://{DEMO['COMPOSE_PROJECT_NAME']}-processor-{number}:{PORTS['processor']}"
        for number in range(1, OURS["processor"]["deploy"]["replicas"] + 1)
    ]
    assert parse(OURS["simulator"]["command"])["url"] == f"http://ingest:{PORTS['webhook']}"


def test_the_webhook_is_published() -> None:
    assert [port.rpartition(":")[2] for port in OURS["ingest"]["ports"]] == [str(PORTS["webhook"])]


def test_rabbitmq_takes_the_largest_delivery_that_github_sends() -> None:
    settings = (ROOT / "deploy/rabbitmq/promgithub.conf").read_text("utf-8")
    size = re.search(r"^max_message_size = (\d+)$", settings, re.MULTILINE)
    assert size
    assert int(size[1]) > 26 * 2**20
