"""The simulator in a container of its own, as a judge of an installation that may be under attack meanwhile."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.support.docker import Installation, docker, until_true

SIMULATION_SECONDS = 500.0
"""Timeout of a simulation. It needs most of this time only on a busy machine."""


def simulate(installation: Installation, processors: int = 2, *options: str) -> None:
    """Run the simulator of the demonstration against all processors; raise `AssertionError` unless all is true.

    Without `--no-deps`, Compose would take away processors beyond the number in compose.yaml. The report decides, not
    the exit status: podman 4.3 gives 0 for a container that it removes by itself.
    """
    pages = [f"--metrics=http://{installation.container('processor', n)}:8082" for n in range(1, processors + 1)]
    command = ["simulate", "http://ingest:8080", *pages, "--timeout=150", "--json", *options]
    ran = installation.compose(
        "run", "--rm", "--no-deps", "simulator", *command, status=None, within=SIMULATION_SECONDS
    )
    reports = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"deliveries"')]
    assert reports, ran.stdout + ran.stderr
    (report,) = reports
    assert report["good"], report
    assert report["figures_compared"] > 0


@contextmanager
def under_load(installation: Installation, deliveries: int, rate: int) -> Iterator[None]:
    """Let the simulator send for the time of the context and longer; then check that all figures equal the truth."""
    with ThreadPoolExecutor(1) as thread:
        options = (f"--deliveries={deliveries}", f"--rate={rate}", "--duplicates=0.2", f"--seed={int(time.time())}")
        simulation: Future[Any] = thread.submit(simulate, installation, 2, *options)
        accepted = received(installation)
        until_true(lambda: simulation.done() or received(installation) > accepted + 50, "the simulator sends")
        if simulation.done():
            simulation.result()
            raise AssertionError("the simulation was over before the fault")
        yield
        simulation.result()


def received(installation: Installation) -> float:
    """Return how many requests the receiver has answered since its start."""
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/metrics', timeout=20).read().decode())"
    page = docker("exec", installation.container("ingest"), "python", "-c", read, status=None).stdout
    lines = [line for line in page.splitlines() if line.startswith("promgithub_webhook_requests_total")]
    return sum(float(line.split()[-1]) for line in lines)
