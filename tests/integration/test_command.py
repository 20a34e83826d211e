"""The real command: what it prints, and how it exits."""

import socket
import subprocess
import sys
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


@pytest.mark.parametrize("group", [(), ("dead-letters",)])
def test_help_cuts_no_summary_short(group: tuple[str, ...]) -> None:
    shown = promgithub(*group, "--help")
    assert "Commands:" in shown.stdout
    assert "..." not in shown.stdout.partition("Commands:")[2]


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


def test_check_config_shows_what_is_in_effect_beside_a_problem() -> None:
    shown = promgithub("check-config", "ingest", SERVICE_PORT="x", WEBHOOK_SECRET=SECRET)
    assert shown.returncode == 1
    assert "PROMGITHUB_MAX_IN_FLIGHT = 1000  (default)" in shown.stdout
    assert "problem: PROMGITHUB_SERVICE_PORT: got 'x', takes a TCP port" in shown.stdout


def test_check_config_finds_no_problem_in_settings_with_which_both_roles_start() -> None:
    shown = promgithub("check-config", WEBHOOK_SECRET=SECRET, DATABASE_URL="postgresql://u@h/x")
    assert (shown.returncode, "problem" in shown.stdout) == (0, False)
    standalone = promgithub("check-config", "standalone", WEBHOOK_SECRET=SECRET, DATABASE_URL="postgresql://u@h/x")
    assert (standalone.returncode, "problem: PROMGITHUB_DATABASE_URL" in standalone.stdout) == (1, True)


def run_into(*errors: str) -> subprocess.CompletedProcess[str]:
    """Run a role that ends with several errors at the same time."""
    program = (
        "from promgithub.running import run\n"
        "from shared.errors import *\n"
        "async def main(stop):\n"
        f"    raise ExceptionGroup('several', [{', '.join(errors)}])\n"
        "run(main)\n"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(("first", "status"), [("SettingsError", 2), ("BrokerUnavailable", 1)])
def test_errors_at_the_same_time_are_a_line_each_and_no_trace(first: str, status: int) -> None:
    shown = run_into(f"{first}('one')", "StoreError('two')")
    assert (shown.returncode, shown.stderr) == (status, "promgithub: one\npromgithub: two\n")


def test_an_unexpected_error_does_not_hide_an_expected_one() -> None:
    shown = run_into("SettingsError('one')", "ValueError('a bug')")
    assert shown.returncode != 0
    assert shown.stderr.startswith("promgithub: one\n")
    assert "ValueError: a bug" in shown.stderr


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
