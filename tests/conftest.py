"""Fixtures for tests on real servers, and the report of the servers in use and the deselected tests."""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from hypothesis import settings

from tests.support.processes import Launcher
from tests.support.servers.discovery import Server, find_postgres, find_rabbit, start_all
from tests.support.servers.errors import MissingServerError, ServerError
from tests.support.servers.postgres import PostgresServer, fresh_database
from tests.support.servers.private import PrivateServer
from tests.support.servers.rabbitmq import RabbitServer, remove_queue

# Speed is measured elsewhere: a slow machine must not fail a test of what is right.
settings.register_profile("promgithub", deadline=None)
settings.load_profile("promgithub")

PAYLOADS_VARIABLE = "PROMGITHUB_TEST_PAYLOADS"

_FINDERS: dict[str, Callable[[Mapping[str, str]], Server]] = {"amqp_url": find_rabbit, "postgres_url": find_postgres}
_SERVERS = pytest.StashKey[dict[str, Server]]()
_LEFT_OUT = pytest.StashKey[int]()
_LAUNCHER = pytest.StashKey[Launcher]()
_S = TypeVar("_S", bound=PrivateServer)

# Servers are started from this thread, which lives as long as the session, whether or not an event loop runs.
_STARTER = ThreadPoolExecutor(max_workers=1)


# --- The session: find and start what the selected tests need, or say what is missing ---


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker `examples`, which tests get by using the fixture `payload_dir`; clean up on SIGTERM too."""
    config.addinivalue_line("markers", "examples: needs GitHub's example payloads (fixture payload_dir)")
    config.stash[_SERVERS] = {}
    config.stash[_LEFT_OUT] = 0
    # Left to itself, SIGTERM ends Python at once, and the files of the servers would stay.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=128 + signal.SIGTERM))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need the example payloads, and deselect them where those are not given."""
    examples = [item for item in items if "payload_dir" in _fixtures_of(item)]
    for item in examples:
        item.add_marker("examples")
    if examples and not os.environ.get(PAYLOADS_VARIABLE):
        config.stash[_LEFT_OUT] = len(examples)
        config.hook.pytest_deselected(items=examples)
        items[:] = [item for item in items if item not in examples]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the shared servers that the selected tests use, before the time limit of any test runs."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in _fixtures_of(item)}
    try:
        _start_servers(session.config, [name for name in _FINDERS if name in fixtures])
    except ServerError as error:
        raise pytest.UsageError(str(error)) from error


def _fixtures_of(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _start_servers(config: pytest.Config, names: list[str]) -> None:
    """Choose and start these servers and say which they are."""
    starting = start_all([_FINDERS[name] for name in names], os.environ)
    servers = _STARTER.submit(asyncio.run, starting).result()
    config.stash[_SERVERS].update(zip(names, servers, strict=True))
    if hasattr(config, "workerinput"):  # one of several processes, none of which has the terminal
        return
    with _terminal(config) as terminal:
        for name, server in zip(names, servers, strict=True):
            terminal.write_line(f"{name}: {server.description}")


@contextmanager
def _terminal(config: pytest.Config) -> Iterator[pytest.TerminalReporter]:
    """Give the terminal, even while the output of a test is captured."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    assert capture is not None
    assert terminal is not None
    with capture.global_and_fixture_disabled():
        yield terminal


def _server_url(config: pytest.Config, name: str) -> str:
    servers = config.stash[_SERVERS]
    if name not in servers:  # asked for by request.getfixturevalue, which collection cannot see
        try:
            _start_servers(config, [name])
        except ServerError as error:
            pytest.fail(str(error), pytrace=False)
    return servers[name].url


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the servers that the session started, and tell the process that has the terminal what was left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[_LEFT_OUT]
    for server in session.config.stash[_SERVERS].values():
        server.close()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over from one of several processes, each of which collects all tests, how many were left out."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many tests were left out, and how to run them."""
    if count := config.stash[_LEFT_OUT]:
        terminalreporter.write_line(
            f"{count} test{'s' * (count > 1)} left out: set {PAYLOADS_VARIABLE} to a directory of GitHub's example "
            "payloads (<event>/<name>.payload.json; payload-examples/api.github.com in github.com/octokit/webhooks)",
            yellow=True,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test printed."""
    report = yield
    launcher = item.stash.get(_LAUNCHER, None)
    if report.failed and launcher is not None:
        report.sections += [(f"log of {process.name}", process.log) for process in launcher.processes]
    return report


# --- Shared servers: a test uses a queue or a database of its own and leaves the server alone ---


@pytest.fixture(scope="session")
def amqp_url(pytestconfig: pytest.Config) -> str:
    """Give the URL of the session's RabbitMQ."""
    return _server_url(pytestconfig, "amqp_url")


@pytest_asyncio.fixture
async def queue_name(amqp_url: str) -> AsyncIterator[str]:
    """Name a main queue; it, its dead-letter queue and the exchange of that name are deleted afterwards."""
    name = f"promgithub.test.{secrets.token_hex(6)}"
    yield name
    await remove_queue(amqp_url, name)


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """Give the URL of the session's PostgreSQL, as a user who may create databases."""
    return _server_url(pytestconfig, "postgres_url")


@pytest_asyncio.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """Give the URL of an empty database, which is dropped afterwards."""
    async with fresh_database(postgres_url) as url:
        yield url


# --- Private servers: a test may stop, kill, fill or reconfigure them ---


def _installed(make: Callable[[], _S]) -> Iterator[_S]:
    try:
        server = make()
    except MissingServerError as error:
        pytest.fail(f"this test breaks a server of its own, for which a container will not do. {error}", pytrace=False)
    yield server
    server.close()


@pytest.fixture(scope="module")
def _module_rabbit() -> Iterator[RabbitServer]:
    yield from _installed(RabbitServer)


@pytest_asyncio.fixture
async def private_rabbit(_module_rabbit: RabbitServer) -> RabbitServer:
    """Give a running RabbitMQ of the module's own: name queues uniquely and undo what was set by `ctl`."""
    await _module_rabbit.start()
    return _module_rabbit


@pytest.fixture(scope="module")
def _module_postgres() -> Iterator[PostgresServer]:
    yield from _installed(PostgresServer)


@pytest_asyncio.fixture
async def private_postgres(_module_postgres: PostgresServer) -> PostgresServer:
    """Give a running PostgreSQL of the module's own; see `fresh_database` for databases in it."""
    await _module_postgres.start()
    return _module_postgres


# --- Programs and data ---


@pytest.fixture
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launcher]:
    """Start `promgithub` processes for a test; they end with it, and their logs are shown if it fails."""
    launcher = Launcher(tmp_path)
    request.node.stash[_LAUNCHER] = launcher
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def promtool() -> str:
    """Give the path of `promtool`, which checks metrics and rules as Prometheus does."""
    path = shutil.which("promtool")
    if path is None:
        pytest.fail(
            "promtool is not installed:\n"
            "  Debian, Ubuntu   sudo apt-get install prometheus\n"
            "  macOS            brew install prometheus",
            pytrace=False,
        )
    return path


@pytest.fixture(scope="session")
def libfaketime() -> str:
    """Give the path of the library that moves the clock of a process which preloads it."""
    if shutil.which("faketime") is None:
        pytest.fail("faketime is not installed:\n  Debian, Ubuntu   sudo apt-get install faketime", pytrace=False)
    printed = subprocess.run(["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, check=True)
    return printed.stdout.decode().strip()


@pytest.fixture(scope="session")
def payload_dir() -> Path:
    """Give the directory of GitHub's example payloads: `<event>/<name>.payload.json`."""
    path = Path(os.environ[PAYLOADS_VARIABLE])
    assert path.is_dir(), f"{PAYLOADS_VARIABLE}={path} is not a directory"
    return path
