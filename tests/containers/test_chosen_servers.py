"""Tests use servers given by URL before containers, and containers before private instances; all three work."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.deployment import ROOT
from tests.support.servers import containers, postgres, rabbitmq
from tests.support.servers.discovery import (
    AMQP_VARIABLE,
    DATABASE_VARIABLE,
    GivenServer,
    Server,
    find_postgres,
    find_rabbit,
)

pytestmark = pytest.mark.timeout(900)

CHOSEN = (
    *("tests/integration/test_broker_contract.py", "tests/integration/test_dead_letters_contract.py"),
    "tests/system/test_pipeline.py::test_a_shuffled_history_with_duplicates_over_two_processors_gives_the_true_figures",
)
NO_DOCKER = "unix:///nonexistent/docker.sock"


def found(**environment: str) -> list[Server]:
    return [find_rabbit(environment), find_postgres(environment)]


def test_a_url_comes_before_docker() -> None:
    amqp, database = "amqp://somebody@127.0.0.1:1/", "postgresql://somebody@127.0.0.1:2/postgres"
    given = found(**{AMQP_VARIABLE: amqp, DATABASE_VARIABLE: database})
    assert [type(server) for server in given] == [GivenServer, GivenServer]
    assert [server.url for server in given] == [amqp, database]


def test_docker_comes_before_private_instances() -> None:
    assert [type(server) for server in found()] == [containers.ContainerServer] * 2
    assert [server.description for server in found()] == ["container of rabbitmq:4", "container of postgres:17"]


def test_private_instances_are_used_without_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    servers = found()
    for server in servers:
        server.close()
    assert [type(server) for server in servers] == [rabbitmq.RabbitServer, postgres.PostgresServer]


def test_the_contracts_of_the_broker_and_a_pipeline_hold_on_containers() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not spool", *CHOSEN]
    without_urls = {name: value for name, value in os.environ.items() if name not in {AMQP_VARIABLE, DATABASE_VARIABLE}}
    ran = subprocess.run(command, cwd=ROOT, env=without_urls, capture_output=True, text=True, timeout=800, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:]
    assert "amqp_url: container of rabbitmq:4" in ran.stdout
    assert "postgres_url: container of postgres:17" in ran.stdout
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed
    assert int(passed[1]) > 20
