"""The `docker` command, as a person at a terminal uses it, and the installation that `compose.yaml` makes."""

import json
import os
import signal
import subprocess
import textwrap
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support import figures
from tests.support.deployment import ROOT
from tests.support.figures import Figures

_Result = TypeVar("_Result")

COMMAND_SECONDS = 120.0
"""Time that a command has, unless a test says otherwise. Any of them takes seconds on an idle machine."""

PATIENCE = 180.0
"""Time that a condition has to become true, in seconds."""

WAIT_TIMEOUT = 300
"""Time that services have to become healthy in the documented command, in seconds."""

UP_SECONDS = WAIT_TIMEOUT + 30.0
"""Time that the documented command has. The image is built before."""

_POLL_SECONDS = 0.5
_OUTPUT_SHOWN = 6000
_LOG_LINES = 30

_READ_METRICS = (
    "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8082/metrics', timeout=20).read().decode())"
)


def docker(
    *arguments: str, status: int | None = 0, within: float = COMMAND_SECONDS, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `docker` in the project's directory; return its status and output.

    Raises `AssertionError` with the output if the exit status is not `status` (`None` accepts any), or if the command
    takes longer than `within`, in seconds.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        shown = (late.stderr or b"").decode(errors="replace")[-_OUTPUT_SHOWN:]  # bytes, in spite of `text`
        raise AssertionError(f"docker {' '.join(arguments)} has not ended within {within:.0f} s:\n{shown}") from late
    if status is not None:
        shown = f"{done.stdout[-_OUTPUT_SHOWN:]}\n{done.stderr[-_OUTPUT_SHOWN:]}"
        assert done.returncode == status, f"docker {' '.join(arguments)} exited with {done.returncode}:\n{shown}"
    return done


def inspect(container: str) -> Mapping[str, Any]:
    """Return what the engine knows of a container."""
    (found,) = json.loads(docker("inspect", container).stdout)
    return found  # type: ignore[no-any-return]


def until_true(condition: Callable[[], _Result | None], what: str, within: float = PATIENCE) -> _Result:
    """Call `condition` until it returns something true; return that. Raises `AssertionError` with `what` otherwise."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(_POLL_SECONDS)
    return result


def healthy(container: str) -> bool:
    """Return whether a container runs and its health check says that it is healthy."""
    state = inspect(container)["State"]
    return bool(state["Running"]) and state["Health"]["Status"] == "healthy"


def await_health(container: str) -> None:
    """Wait until a container that was started is healthy; raise `AssertionError` with its log if it ends before."""

    def healthy_or_ended() -> bool:
        assert inspect(container)["State"]["Running"], f"{container} has ended:\n{docker('logs', container).stderr}"
        return healthy(container)

    until_true(healthy_or_ended, f"{container} is healthy")


@dataclass(frozen=True)
class Installation:
    """What `docker compose` makes of `compose.yaml` with a file of variables, under a project's name."""

    project: str
    variables: Path

    def compose(
        self, *arguments: str, status: int | None = 0, within: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker compose`; see `docker`."""
        return docker("compose", "--env-file", str(self.variables), *arguments, status=status, within=within)

    def up(self, *services: str) -> None:
        """Run the documented command for these services, and wait until they are healthy.

        Raises `AssertionError` with the state and the log of each container that is not well, if the command fails.
        """
        waiting = ("--wait", "--wait-timeout", str(WAIT_TIMEOUT))
        try:
            self.compose("up", "--build", "--detach", *waiting, *services, within=UP_SECONDS)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.unwell()}") from None

    def unwell(self) -> str:
        """Describe each container that is not healthy: its name and state, and the last lines of its log."""
        containers = until_true(self._listed, "the engine lists the containers")
        return "\n".join(_described(container) for container in containers if not _well(container))

    def _listed(self) -> Sequence[Mapping[str, Any]] | None:
        """Return what Compose says of each container; None if one of them just ended, which is an error on podman."""
        listed = self.compose("ps", "--all", "--format", "json", status=None)
        return None if listed.returncode else [json.loads(line) for line in listed.stdout.splitlines()]

    def containers(self, service: str) -> Sequence[str]:
        """Return the names of the running containers of a service, in the order of their numbers."""
        lines = self.compose("ps", "--format", "{{.Name}}", service).stdout.split()
        return sorted(lines)

    def container(self, service: str, number: int = 1) -> str:
        """Return the name that Compose gives to a container of a service."""
        return f"{self.project}-{service}-{number}"

    def crash(self, service: str, number: int = 1) -> None:
        """Kill the first process of a container from outside, as the kernel does when memory runs out."""
        os.kill(inspect(self.container(service, number))["State"]["Pid"], signal.SIGKILL)

    def wait_healthy(self, *services: str) -> None:
        """Wait until each container of these services is healthy, without a hand's turn."""
        for service in services:
            for container in self.containers(service):
                until_true(lambda name=container: healthy(name), f"{container} is healthy")  # type: ignore[misc]

    def pages(self) -> Sequence[Figures]:
        """Return the metrics page of each processor."""
        return [
            figures.of_text(docker("exec", name, "python", "-c", _READ_METRICS).stdout)
            for name in self.containers("processor")
        ]

    def figures(self) -> Figures:
        """Return the figures about CI, once a processor exposes them."""
        return until_true(self._exposed, "a processor exposes the figures")

    def _exposed(self) -> Figures | None:
        led = [page for page in self.pages() if figures.total(page, "promgithub_exporter_leader") == 1]
        return figures.of_ci(led[0]) if led else None


def _well(container: Mapping[str, Any]) -> bool:
    """Return whether a container, as `docker compose ps` lists it, is healthy or has ended with success."""
    if container["State"] == "exited":
        return bool(container["ExitCode"] == 0)
    return bool(container["State"] == "running" and container["Health"] in ("", "healthy"))


def _described(container: Mapping[str, Any]) -> str:
    log = docker("logs", "--tail", str(_LOG_LINES), container["Name"], status=None)
    state = f"{container['Name']} is {container['State']}: {container['Status']}"
    return f"{state}\n{textwrap.indent(f'{log.stdout}{log.stderr}', '    ')}"


def get(url: str) -> str:
    """Return what a page of this machine says."""
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a page of our own
        return answer.read().decode()  # type: ignore[no-any-return]
