"""The image runs standalone and its one-shot commands as docs/deploying.md says."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.docker import await_health, docker, inspect, until_true

pytestmark = pytest.mark.timeout(900)

HARDENED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--memory", "512m", "--pids-limit", "100"),
)
DATA = "/var/lib/promgithub"
SECRET = ("--env", "PROMGITHUB_WEBHOOK_SECRET=s3cret")
UNREACHABLE = (
    *("--env", "PROMGITHUB_AMQP_URL=amqp://guest:guest@127.0.0.1:1/"),
    *("--env", "PROMGITHUB_DATABASE_URL=postgresql://promgithub@127.0.0.1:1/promgithub"),
)
SIMULATE = ("simulate", "http://127.0.0.1:8080", "--metrics", "http://127.0.0.1:8081", "--deliveries", "300")
USER = 65532
# promgithub stops within 25 s, once it has started. On a busy machine the start takes longer than that.
STOP_SECONDS = 120
# The first pause is shorter than Python's start, the last one is about as long as that of promgithub.
FIRST_MOMENTS = (0.0, 0.3, 1.0)

Start = Callable[..., str]


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Give a function that starts a hardened container with these options and arguments; it returns its name."""
    names: list[str] = []

    def run(options: Sequence[str], *arguments: str) -> str:
        name = f"promgithub-test-{secrets.token_hex(4)}"
        names.append(name)
        docker("run", "--detach", "--name", name, *HARDENED, *options, image, *arguments)
        return name

    yield run
    if names:
        docker("rm", "--force", "--volumes", *names, status=None)


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"promgithub-test-{secrets.token_hex(4)}"
    yield name
    docker("volume", "rm", "--force", name, status=None)


@pytest.fixture
def directory() -> Iterator[str]:
    """Give a directory of this machine that belongs to the image's user, as the documentation says."""
    path = Path(tempfile.mkdtemp(prefix="promgithub-test-", dir="/var/tmp"))
    shutil.chown(path, USER, USER)
    yield str(path)
    shutil.rmtree(path)


def test_the_image_says_its_version(image: str) -> None:
    assert docker("run", "--rm", *HARDENED, image, "--version").stdout.startswith("promgithub ")


def test_the_directory_that_a_new_volume_takes_after_belongs_to_the_user(image: str) -> None:
    # Docker copies the owner of the image's directory. podman gives a new volume to the user in any case.
    shown = docker("run", "--rm", *HARDENED, "--entrypoint", "stat", image, "--format=%u %g %a", DATA)
    assert shown.stdout.split() == [str(USER), str(USER), "700"]


def simulated_and_stopped(container: str) -> None:
    await_health(container)
    shown = docker("exec", *SECRET, container, "promgithub", *SIMULATE, "--timeout", "100").stdout
    assert "figures equal the truth" in shown
    assert stopped(container) == 0


def stopped(container: str) -> int:
    """Stop a container; return its exit status. 137 means that it did not end by itself."""
    docker("stop", "--time", str(STOP_SECONDS), container, within=2 * STOP_SECONDS)
    status: int = inspect(container)["State"]["ExitCode"]
    return status


def test_standalone_keeps_its_figures_on_a_named_volume(start: Start, volume: str) -> None:
    mounted = ("--volume", f"{volume}:{DATA}", *SECRET)
    simulated_and_stopped(start(mounted, "standalone", "--data-dir", DATA))

    again = start(mounted, "standalone", "--data-dir", DATA)
    await_health(again)
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/metrics', timeout=20).read().decode())"
    until_true(
        lambda: "promgithub_workflow_status_total{" in docker("exec", again, "python", "-c", read).stdout,
        "the figures from before are exposed",
    )


def test_standalone_runs_on_a_directory_of_the_host(start: Start, directory: str) -> None:
    simulated_and_stopped(start(("--volume", f"{directory}:{DATA}", *SECRET), "standalone", "--data-dir", DATA))
    assert Path(directory, "promgithub.db").exists()


def test_standalone_runs_on_a_tmpfs_beside_the_directory_of_the_image(start: Start) -> None:
    simulated_and_stopped(start(("--tmpfs", "/data", *SECRET), "standalone", "--data-dir", "/data"))


def test_without_a_mount_an_error_names_the_directory(start: Start) -> None:
    status, log = ended(start(SECRET, "standalone", "--data-dir", DATA))
    assert status in {1, 2}
    assert DATA in log


def test_a_wrong_setting_is_one_line_and_exit_status_2(start: Start) -> None:
    status, log = ended(start((*UNREACHABLE, "--env", "PROMGITHUB_GRACE=soon"), "processor"))
    assert status == 2
    (line,) = log.splitlines()
    assert "PROMGITHUB_GRACE" in line


def ended(container: str) -> tuple[int, str]:
    """Wait until a container ends by itself; return its exit status and what it printed as errors."""
    until_true(lambda: inspect(container)["State"]["Status"] == "exited", f"{container} has ended")
    return inspect(container)["State"]["ExitCode"], docker("logs", container).stderr


@pytest.mark.parametrize("role", ["standalone", "ingest", "processor"])
@pytest.mark.parametrize("pause", FIRST_MOMENTS)
def test_sigterm_in_the_first_second_ends_a_role_without_an_init(
    start: Start, volume: str, role: str, pause: float
) -> None:
    arguments = [role, "--data-dir", DATA] if role == "standalone" else [role]
    settings = () if role == "standalone" else UNREACHABLE
    spool = ("--env", f"PROMGITHUB_SPOOL_DIR={DATA}/spool") if role == "ingest" else ()
    secret = () if role == "processor" else SECRET
    container = start(("--volume", f"{volume}:{DATA}", *secret, *settings, *spool), *arguments)
    time.sleep(pause)
    assert stopped(container) == 0, docker("logs", container).stderr
