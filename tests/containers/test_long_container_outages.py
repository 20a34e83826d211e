"""Longer outages of what compose.yaml runs, under load. `make drills-containers` runs them; they take some minutes."""

import time
from collections.abc import Callable

import pytest

from tests.containers.simulating import SIMULATION_SECONDS, under_load
from tests.support.docker import Installation

pytestmark = pytest.mark.timeout(1800)

OUTAGE_SECONDS = 60.0


def stop(*services: str) -> Callable[[Installation], None]:
    """Return what stops services for the time of an outage, and starts them again."""

    def fault(installation: Installation) -> None:
        installation.compose("stop", *services)
        time.sleep(OUTAGE_SECONDS)
        installation.compose("start", *services)

    return fault


def kill_everything(installation: Installation) -> None:
    """Kill every container but the simulator's, and start them again, as after a power cut."""
    services = ("ingest", "processor", "rabbitmq", "postgres")
    installation.compose("kill", *services)
    installation.compose("start", *services, within=SIMULATION_SECONDS)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(stop("rabbitmq"), id="rabbitmq"),
        pytest.param(stop("postgres"), id="postgres"),
        pytest.param(stop("rabbitmq", "postgres"), id="both-servers"),
        pytest.param(stop("processor"), id="processors"),
        pytest.param(kill_everything, id="everything-killed"),
    ],
)
def test_the_figures_are_true_after_a_minute_without(
    installation: Installation, services: list[str], fault: Callable[[Installation], None]
) -> None:
    installation.up(*services)
    with under_load(installation, deliveries=3000, rate=30):
        fault(installation)
    installation.wait_healthy("rabbitmq", "postgres", "ingest", "processor")
