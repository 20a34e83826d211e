"""The units for systemd: valid and hardened, as systemd's own tools say, and in agreement with the program."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.deployment import ROOT, SHUTDOWN_SECONDS, parse, problems

SYSTEMD = ROOT / "deploy/systemd"

UNITS = {
    "ingest": "promgithub-ingest.service",
    "processor": "promgithub-processor@.service",
    "standalone": "promgithub-standalone.service",
}
"""The unit of each command."""

PORT = "8083"
"""The instance of the template."""

MOST_EXPOSED = "30"
"""What `systemd-analyze security` may say at most, in tenths. Its scale ends at 10."""

PROVIDED = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
"""Where the units of systemd itself are."""


def lines(command: str) -> list[tuple[str, str]]:
    """Return the settings of a unit, as of the instance `PORT`."""
    text = (SYSTEMD / UNITS[command]).read_text("utf-8").replace("%i", PORT).replace("%S", "/var/lib")
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return [(key, value) for key, _, value in pairs]


def service(command: str) -> dict[str, str]:
    """Return the settings of a unit; of one that is given more than once, the last."""
    return dict(lines(command))


def environment(command: str) -> dict[str, str]:
    """Return the environment of a service: that of the unit, and then that of the file."""
    file = SYSTEMD / Path(service(command)["EnvironmentFile"]).name
    given = [value for key, value in lines(command) if key == "Environment"]
    given += [line for line in file.read_text("utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in given)


def systemd(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd."""
    path = shutil.which(program)
    if path is None:
        pytest.fail(f"{program} is not installed:\n  Debian, Ubuntu   sudo apt-get install systemd", pytrace=False)
    return subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the root of a system on which the units are installed as the page says."""
    units, programs = tmp_path / "etc/systemd/system", tmp_path / "opt/promgithub/bin"
    for directory in (units, programs):
        directory.mkdir(parents=True)
    for unit in UNITS.values():
        shutil.copy(SYSTEMD / unit, units)
    provided = next(directory for directory in PROVIDED if directory.is_dir())
    shutil.copytree(provided, tmp_path / "usr/lib/systemd/system", symlinks=True)
    (programs / "promgithub").touch(0o755)
    return tmp_path


def test_systemd_accepts_the_units_and_what_they_start_exists(root: Path) -> None:
    names = [unit.replace("@.", f"@{PORT}.") for unit in UNITS.values()]
    verified = systemd("systemd-analyze", "verify", f"--root={root}", *names)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS.values())
def test_a_unit_is_hardened(unit: str) -> None:
    rated = systemd("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", SYSTEMD / unit)
    assert rated.returncode == 0, rated.stdout + rated.stderr


def test_all_units_are_hardened_alike() -> None:
    def hardening(command: str) -> Sequence[tuple[str, str]]:
        every = lines(command)
        return every[every.index(("UMask", "0077")) :]

    assert hardening("ingest") == hardening("processor") == hardening("standalone")


def test_the_users_of_the_units_are_made_and_have_no_home(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    made = systemd("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "sysusers.conf")
    assert made.returncode == 0, made.stderr
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text("utf-8").splitlines()]
    assert {user[0] for user in users} == {service(command)["User"] for command in UNITS}
    assert {(user[5], user[6]) for user in users} == {("/nonexistent", "/usr/sbin/nologin")}


@pytest.mark.parametrize("command", UNITS)
def test_a_unit_starts_its_command_and_waits_for_its_end(command: str) -> None:
    program, *arguments = service(command)["ExecStart"].split()
    assert program == "/opt/promgithub/bin/promgithub"
    assert arguments[0] == command
    parse(arguments)
    assert int(service(command)["TimeoutStopSec"]) > SHUTDOWN_SECONDS


@pytest.mark.parametrize("command", UNITS)
def test_the_environment_of_a_unit_has_settings_that_fit_and_no_other(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "webhook-secret").write_text("secret")
    given = {name: value.replace("/etc/promgithub", str(tmp_path)) for name, value in environment(command).items()}
    assert list(problems(given, command, monkeypatch)) == []


def test_what_is_written_is_in_the_directory_that_a_unit_creates() -> None:
    for command, directory in {
        "ingest": environment("ingest")["PROMGITHUB_SPOOL_DIR"],
        "standalone": str(parse(service("standalone")["ExecStart"].split()[1:])["data_dir"]),
    }.items():
        assert directory == f"/var/lib/{service(command)['StateDirectory']}"
        assert service(command)["StateDirectoryMode"] == "0700"


def test_the_instance_of_a_processor_is_its_admin_port() -> None:
    assert environment("processor")["PROMGITHUB_ADMIN_PORT"] == PORT
