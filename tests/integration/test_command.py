"""The real command: what it prints, and how it exits."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.settings import PREFIX, ROLES, described
from tests.support.processes import PROMGITHUB
from tests.support.servers.ports import free_port

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
    for command in ("ingest", "processor", "migrate", "check-config", "status"):
        assert command in shown.stdout


@pytest.mark.parametrize("command", [(), ("ingest",), ("dead-letters",), ("dead-letters", "replay")])
def test_minus_h_is_help(command: tuple[str, ...]) -> None:
    shown = promgithub(*command, "-h")
    assert (shown.returncode, shown.stdout) == (0, promgithub(*command, "--help").stdout)


@pytest.mark.parametrize("command", [("simulate", "URL"), ("dead-letters", "show", "ID")])
def test_a_required_argument_looks_so(command: tuple[str, ...]) -> None:
    *words, argument = command
    usage = promgithub(*words, "--help").stdout.splitlines()[0]
    assert usage == f"Usage: promgithub {' '.join(words)} [OPTIONS] {argument}"
    missing = promgithub(*words)
    assert (missing.returncode, f"Missing argument '{argument}'" in missing.stderr) == (2, True)


@pytest.mark.parametrize("role", ["ingest", "processor", "standalone"])
def test_the_help_of_a_role_names_its_settings_and_where_to_read_on(role: str) -> None:
    shown = " ".join(promgithub(role, "--help").stdout.split())
    listed = set(re.findall(r"[A-Z][A-Z_]+", shown))
    assert listed >= {one.variable.removeprefix(PREFIX) for one in described(ROLES[role]).values()}
    assert f"`promgithub check-config {role}`" in shown.replace("check- config", "check-config")
    assert "docs/configuration.md" in shown


def test_a_shell_can_complete_commands() -> None:
    asked = {"_PROMGITHUB_COMPLETE": "complete_bash", "COMP_WORDS": "promgithub dead-letters re", "COMP_CWORD": "2"}
    shown = subprocess.run([PROMGITHUB], env=asked, capture_output=True, text=True, timeout=30, check=False)
    assert shown.stdout.split() == ["replay"]


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


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [(("ingest",), "DATABASE_URL"), (("processor",), "WEBHOOK_SECRET"), (("standalone",), "QUEUE_NAME"), ((), "")],
    ids=lambda value: " ".join(value) or "both roles" if isinstance(value, tuple) else "",
)
def test_check_config_warns_of_settings_without_effect_in_the_role(arguments: tuple[str, ...], setting: str) -> None:
    given = {"WEBHOOK_SECRET": SECRET, "DATABASE_URL": "sqlite:///x.db", "QUEUE_NAME": "q"}
    shown = promgithub("check-config", *arguments, **given)
    warned = [line for line in shown.stdout.splitlines() if line.startswith("warning: ")]
    assert warned == [f"warning: PROMGITHUB_{setting}: has no effect in {role}" for role in arguments]


@pytest.fixture
def runners_file(tmp_path: Path) -> Callable[[str], str]:
    """Give a function that writes a RUNNERS_FILE, and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "runners.toml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ("self-hosted,GPU-a100", "runner_class gpu  (0.1 USD per minute)"),
        ("ubuntu-26.04", "runner_class ubuntu-26.04  (0.006 USD per minute, free in public repositories)"),
        ("self-hosted,x64,linux", "runner_class linux,x64  (no price)"),
        ("self-hosted", "runner_class self-hosted  (no price)"),
        ("", "runner_class unknown  (no price)"),
    ],
)
def test_check_config_shows_the_runner_class_of_labels(
    labels: str, shown: str, runners_file: Callable[[str], str]
) -> None:
    path = runners_file('[[runner]]\nclass = "gpu"\nlabels = ["self-hosted", "gpu*"]\nusd_per_minute = 0.10\n')
    asked = promgithub("check-config", "--labels", labels, RUNNERS_FILE=path)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.strip().endswith(shown)


def test_check_config_shows_the_runner_classes_in_effect(runners_file: Callable[[str], str]) -> None:
    path = runners_file('[[runner]]\nclass = "gpu"\nlabels = ["self-hosted", "gpu*"]\nusd_per_minute = 0.10\n')
    shown = promgithub("check-config", "processor", RUNNERS_FILE=path).stdout
    assert "gpu = self-hosted, gpu*  (0.1 USD per minute)" in shown
    assert shown.index("gpu = ") < shown.index("ubuntu-latest")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"RUNNERS_FILE": "price"}, "line 4: usd_per_minute: got 'free', takes a number of US dollars from 0 to 1000"),
        ({"RUNNERS_FILE": "/nowhere/runners.toml"}, "/nowhere/runners.toml: No such file or directory"),
        ({"QUEUE_BUCKETS": "1,7"}, "PROMGITHUB_QUEUE_BUCKETS: the store has no bound 7, takes some of 0.1, 0.5, 1, 2,"),
        ({"LABELS": "job"}, "PROMGITHUB_LABELS: got 'job', takes a comma-separated list of `job_name` and `event`"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value.values())),
)
def test_a_setting_of_what_is_counted_that_is_wrong_stops_the_start_with_one_line(
    settings: dict[str, str], problem: str, runners_file: Callable[[str], str]
) -> None:
    if settings.get("RUNNERS_FILE") == "price":
        wrong = '[[runner]]\nclass = "gpu"\nlabels = ["gpu*"]\nusd_per_minute = "free"\n'
        settings = {"RUNNERS_FILE": runners_file(wrong)}
    stopped = promgithub("processor", **settings)
    assert stopped.returncode == 2
    (line,) = stopped.stderr.splitlines()
    assert problem in line
    checked = promgithub("check-config", "processor", **settings)
    assert (checked.returncode, problem in checked.stdout) == (1, True)


def run_into(*errors: str) -> subprocess.CompletedProcess[str]:
    """Run a role that ends with several errors at the same time."""
    program = (
        "from promgithub.commands.running import run\n"
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


def test_migrate_without_a_database_names_the_setting_to_check() -> None:
    shown = promgithub("migrate", DATABASE_URL=f"postgresql://u:{SECRET}@127.0.0.1:1/x")
    assert shown.returncode == 1
    assert shown.stderr == (
        'promgithub: the database cannot be migrated: PostgreSQL at 127.0.0.1:1, database "x", user "u": '
        "connection refused; look at PROMGITHUB_DATABASE_URL\n"
    )


@pytest.mark.parametrize("command", ["migrate", "reconcile"])
def test_a_database_that_does_not_exist_is_one_line_that_names_it(
    command: str, database_url: str, amqp_url: str
) -> None:
    absent = f"{database_url}_absent"
    shown = promgithub(command, DATABASE_URL=absent, AMQP_URL=amqp_url, GITHUB_TOKEN=SECRET)
    assert shown.returncode == 1
    (line,) = [line for line in shown.stderr.splitlines() if not line.startswith("{")]
    name = absent.rpartition("/")[2]
    assert f'the database "{name}" does not exist; create it (SQLSTATE 3D000)' in line
    assert SECRET not in shown.stderr


def test_migrate_says_what_it_did(database_url: str) -> None:
    first = promgithub("migrate", DATABASE_URL=database_url)
    assert (first.returncode, first.stdout.startswith("migrated")) == (0, True)
    second = promgithub("migrate", DATABASE_URL=database_url)
    assert (second.returncode, second.stdout.startswith("already at revision")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "PROMGITHUB_GITHUB_HOOKS: not set; takes hooks, or name repositories: OWNER/REPOSITORY"),
        (("gears",), "got 'gears', takes OWNER/REPOSITORY, such as acme/gears"),
        (("acme/gears", "--output", "{here}/past.txt"), "{here}/past.txt: exists; move it away, or name another file"),
    ],
)
def test_a_backfill_that_cannot_begin_says_why(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "past.txt").touch()
    refused = promgithub("backfill", *(one.format(here=tmp_path) for one in arguments))
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"promgithub: {message.format(here=tmp_path)}")
    assert len(refused.stderr.splitlines()) == 1
