"""The image and the installation that the tests of containers share. They run by `make test-containers` only."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT
from tests.support.docker import Installation, docker

BUILD_SECONDS = 600.0
"""Time for a build of the image."""


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Build the image as docs/deploying.md says; give its name."""
    name = f"promgithub:test-{secrets.token_hex(4)}"
    base = os.environ.get("PROMGITHUB_TEST_BASE_IMAGE")  # where the one in the Dockerfile cannot be pulled
    docker("build", "-t", name, *(["--build-arg", f"PYTHON={base}"] if base else []), ".", within=BUILD_SECONDS)
    yield name
    docker("rmi", "--force", name, status=None)


@pytest.fixture(scope="session")
def services() -> list[str]:
    """Name the services of compose.yaml that can run here: nothing stands in for Grafana."""
    with_stand_ins = "PROMGITHUB_TEST_BASE_IMAGE" in os.environ
    return ["ingest", "processor", "migrate", "rabbitmq", "postgres", "prometheus"] + ["grafana"] * (not with_stand_ins)


@pytest.fixture(scope="module")
def installation(image: str, services: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Bring up compose.yaml by its documented command, as a project of its own; take it down with its volumes."""
    project, tag = f"promgithub-test-{secrets.token_hex(4)}", image.partition(":")[2]
    variables = tmp_path_factory.mktemp("compose") / "test.env"
    demo = (ROOT / "demo.env").read_text("utf-8").replace("COMPOSE_PROJECT_NAME=promgithub-demo", "")
    variables.write_text(f"{demo}\nCOMPOSE_PROJECT_NAME={project}\nPROMGITHUB_TAG={tag}\n")
    made = Installation(project, variables)
    try:
        made.up(*services)
        yield made
    finally:
        _keep_logs(made, variables.with_name("compose.log"))
        made.compose("--profile", "demo", "down", "--volumes", "--timeout", "5", status=None)


def _keep_logs(installation: Installation, file: Path) -> None:
    file.write_text(installation.compose("logs", "--no-color", "--tail", "300", status=None).stdout)
