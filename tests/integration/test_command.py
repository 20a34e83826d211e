"""The real command: what it prints, and how it exits."""

import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.processes import PROMGITHUB
from tests.servers.ports import free_port

SECRET = "hunter2-correct-horse"


def promgithub(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {f"PROMGITHUB_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [PROMGITHUB, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_help_names_every_command() -> None:
    shown = promgithub("--help")
    assert shown.returncode == 0
    for command in ("ingest", "processor", "migrate", "check-config"):
        assert command in shown.stdout


def test_version_says_which_release_runs() -> None:
    shown = promgithub("--version")
    assert (shown.returncode, shown.stdout.startswith("promgithub 0.")) == (0, True)


def test_check_config_shows_the_settings_and_no_secret() -> None:
    shown = promgithub("check-config", WEBHOOK_SECRET=SECRET, AMQP_URL=f"amqp://u:{SECRET}@h/")
    assert shown.returncode == 0
    assert "PROMGITHUB_SERVICE_PORT = 8080  (default)" in shown.stdout
    assert SECRET not in shown.stdout + shown.stderr


def test_check_config_shows_every_problem_and_fails() -> None:
    shown = promgithub("check-config", SERVICE_PORT="x", BRANCHES="(", QEUE_NAME="y")
    assert shown.returncode == 1
    for name in ("WEBHOOK_SECRET", "SERVICE_PORT", "BRANCHES", "QEUE_NAME"):
        assert f"PROMGITHUB_{name}" in shown.stdout


@pytest.mark.parametrize("command", ["ingest", "processor", "migrate"])
def test_a_wrong_setting_stops_the_start_with_one_line(command: str) -> None:
    shown = promgithub(command, WEBHOOK_SECRET=SECRET, QUEUE_NAME="a b", LOG_LEVEL="info")
    assert shown.returncode == 2
    (line,) = shown.stderr.splitlines()
    assert line.startswith("promgithub: PROMGITHUB_QUEUE_NAME: got 'a b', takes ")


def test_ingest_without_a_secret_refuses_to_start() -> None:
    shown = promgithub("ingest")
    assert shown.returncode == 2
    assert shown.stderr.startswith("promgithub: PROMGITHUB_WEBHOOK_SECRET: not set")


@pytest.mark.parametrize("variable", ["SERVICE_PORT", "ADMIN_PORT"])
def test_a_port_in_use_is_one_line_that_names_the_setting(taken_port: int, variable: str) -> None:
    settings = {"SERVICE_PORT": "0", "ADMIN_PORT": "0", "SERVICE_HOST": "127.0.0.1", "ADMIN_HOST": "127.0.0.1"}
    settings |= {"SERVICE_PORT": str(free_port()), "ADMIN_PORT": str(free_port()), variable: str(taken_port)}
    shown = promgithub("ingest", WEBHOOK_SECRET=SECRET, **settings)
    assert shown.returncode == 2
    lines = [line for line in shown.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert lines[0].startswith(f"promgithub: PROMGITHUB_{variable}: cannot listen on 127.0.0.1:{taken_port}")


def test_migrate_without_a_database_says_what_to_look_at() -> None:
    shown = promgithub("migrate", DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:1/x")
    assert shown.returncode == 1
    (line,) = shown.stderr.splitlines()
    assert "PROMGITHUB_DATABASE_URL" in line
    assert SECRET not in line


def test_migrate_says_what_it_did(database_url: str) -> None:
    first = promgithub("migrate", DATABASE_URL=database_url)
    assert (first.returncode, first.stdout.startswith("migrated")) == (0, True)
    second = promgithub("migrate", DATABASE_URL=database_url)
    assert (second.returncode, second.stdout.startswith("already at revision")) == (0, True)
