"""Checks of the Dockerfile that need no build."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from prometheus_client import CollectorRegistry

from deploy.image.healthcheck import PORTS as PROBED
from shared.admin.server import AdminServer, standard_routes
from shared.errors import BrokerUnavailable
from tests.support.deployment import PORTS, ROOT, parse
from tests.support.servers.ports import free_port

HADOLINT = Path(sys.executable).with_name("hadolint")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


async def _gather(*, openmetrics: bool) -> CollectorRegistry:
    return CollectorRegistry()


async def _broken() -> None:
    raise BrokerUnavailable("no connection")


@pytest_asyncio.fixture
async def unready_port() -> AsyncIterator[int]:
    """Give the admin port of a process that lives, but is not ready."""
    port = free_port()
    server = AdminServer("127.0.0.1", port, standard_routes(_gather, {"broker": _broken}, asyncio.Event()))
    await server.start()
    yield port
    await server.close()


def test_hadolint_finds_no_problem() -> None:
    linted = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_what_is_copied_exists_and_is_all_that_the_builder_gets() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert sorted(copied) == sorted(line[1:] for line in ignore if line.startswith("!"))
    assert all((ROOT / source).exists() for source in copied)


def test_every_package_of_the_program_is_copied() -> None:
    packages = re.search(r"^include = \[(.+)\]$", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert packages
    for name in re.findall(r'"(\w+)\*"', packages[1]):
        assert f"COPY {name} {name}\n" in DOCKERFILE


def test_the_process_is_the_first_of_the_container_and_not_root() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert 'ENTRYPOINT ["env", "--block-signal=TERM", "promgithub"]' in final
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert "PYTHONOPTIMIZE" not in DOCKERFILE
    assert parse(["standalone", "--data-dir", "."])


def test_the_ports_are_those_of_the_program() -> None:
    assert set(PROBED) == {PORTS["ingest"], PORTS["processor"]}
    exposed = re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert exposed
    assert {int(port) for port in exposed[1].split()} == set(PORTS.values())


async def test_the_health_check_tells_alive_from_ready_and_from_gone(unready_port: int) -> None:
    assert await _health(unready_port, "/livez") == 0
    assert await _health(unready_port, "/readyz") == 1
    assert await _health(free_port(), "/livez") == 1


async def _health(port: int, path: str) -> int:
    check = await asyncio.create_subprocess_exec(
        sys.executable, ROOT / "deploy/image/healthcheck.py", path, env={"PROMGITHUB_ADMIN_PORT": str(port)}
    )
    return await check.wait()


def _locked(text: str) -> dict[str, frozenset[str]]:
    """Return the hashes of each package of a lock file."""
    packages = re.split(r"^(?=[\w.-]+(?:\[[\w,]+\])?==)", text, flags=re.MULTILINE)
    return {one.split()[0]: frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", one)) for one in packages if one}


def test_the_image_installs_what_the_tests_ran_with_and_every_package_has_a_hash() -> None:
    everything = _locked((ROOT / "constraints.txt").read_text("utf-8"))
    image = _locked((ROOT / "deploy/image/requirements.txt").read_text("utf-8"))
    assert all(everything.values())
    assert image.items() <= everything.items()
    assert "--require-hashes" in DOCKERFILE
