"""What an operator reads when something is set up wrongly: what is wrong, where, and why."""

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from sqlalchemy import make_url

from tests.support import builders
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PostgresServer, fresh_database
from tests.support.servers.rabbitmq import RabbitServer

SOON = 60.0
"""Seconds that a process may take to notice and to say something."""

PASSWORD = "hunter2-correct-horse"

NOWHERE = "amqp://guest:guest@127.0.0.1:1/"


def logged(process: Process, event: str) -> list[dict[str, Any]]:
    """Return the log lines of an event."""
    lines = [json.loads(line) for line in process.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def said(process: Process) -> list[str]:
    """Return the lines that are not log lines."""
    return [line for line in process.log.splitlines() if not line.startswith("{")]


async def has_logged(process: Process, event: str) -> dict[str, Any]:
    """Wait until a process logs an event; return the first such line."""

    async def first() -> dict[str, Any] | None:
        return next(iter(logged(process, event)), None)

    return await until(first, SOON)


async def failing(process: Process, name: str, *parts: str) -> str:
    """Wait until `/readyz` says of a dependency all of these parts; return what it says."""

    async def state() -> str | None:
        try:
            async with aiohttp.ClientSession() as client, client.get(f"{process.admin_url}/readyz") as answer:
                found = (await answer.json())["checks"][name]
        except aiohttp.ClientConnectionError:
            return None
        return found if all(part in found for part in parts) else None

    return await until(state, SOON)


Start = Callable[..., Process]


@pytest.fixture
def standalone(launcher: Launcher, tmp_path: Path) -> Start:
    """Give a function that starts standalone on the test's data directory."""

    def start(**settings: str) -> Process:
        return launcher.start("standalone", "--data-dir", str(tmp_path / "data"), WEBHOOK_SECRET=SECRET, **settings)

    return start


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- The database ---


async def test_a_file_that_is_no_database_ends_standalone_and_stays_as_it_is(standalone: Start, tmp_path: Path) -> None:
    file = tmp_path / "data" / "promgithub.db"
    file.parent.mkdir()
    file.write_text("a letter to my aunt, which is longer than the header of a database\n" * 30)
    before = file.read_bytes()
    process = standalone()
    assert await process.ended(SOON) == 1
    reason = f"SQLite file {file}: the file is not an SQLite database (SQLITE_NOTADB)"
    assert said(process) == [
        f"promgithub: the database cannot be used: {reason}; check PROMGITHUB_DATABASE_URL",
    ]
    assert not logged(process, "receiver started")
    assert file.read_bytes() == before


def test_an_unreadable_home_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0)
    # The superuser may read everything, unless it gives that right up.
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PROMGITHUB_DATABASE_URL": f"postgresql://u:{PASSWORD}@127.0.0.1:1/x",
    }
    command = [*prefix, PROMGITHUB, "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SOON, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'PostgreSQL at 127.0.0.1:1, database "x", user "u": ' in line
    assert f"{home}/.postgresql/postgresql.key cannot be read (permission denied); check the variable HOME" in line
    assert PASSWORD not in line


async def test_readiness_names_a_database_that_does_not_exist(launcher: Launcher, postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="nowhere", password=PASSWORD).render_as_string(hide_password=False)
    process = launcher.start("processor", AMQP_URL=NOWHERE, DATABASE_URL=url)
    state = await failing(process, "database", 'the database "nowhere" does not exist; create it (SQLSTATE 3D000)')
    assert state.startswith("failed: PostgreSQL at 127.0.0.1:")
    assert not logged(process, "processor started")
    assert PASSWORD not in process.log


async def test_readiness_and_the_log_name_a_missing_privilege(
    launcher: Launcher, postgres_url: str, amqp_url: str, queue_name: str
) -> None:
    role = f"reader_{secrets.token_hex(4)}"
    async with fresh_database(postgres_url) as url:
        environment = {"PROMGITHUB_DATABASE_URL": url, "PATH": os.environ["PATH"]}
        await asyncio.to_thread(subprocess.run, [PROMGITHUB, "migrate"], env=environment, check=True, timeout=SOON)
        admin = await asyncpg.connect(url)
        try:
            await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
            await admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            own = make_url(url).set(username=role, password=PASSWORD).render_as_string(hide_password=False)
            process = launcher.start("processor", AMQP_URL=amqp_url, QUEUE_NAME=queue_name, DATABASE_URL=own)
            state = await failing(process, "database", "permission denied for table leases")
            assert state.startswith("failed: permission: PostgreSQL at ")
            line = await has_logged(process, "the database cannot be used")
            assert f'user "{role}"' in line["error"]
            await process.kill()
        finally:
            await admin.execute(f"DROP OWNED BY {role} CASCADE")
            await admin.execute(f"DROP ROLE {role}")
            await admin.close()


async def test_an_outage_of_the_database_is_one_warning_however_often_it_is_noticed(
    launcher: Launcher, private_postgres: PostgresServer, amqp_url: str, queue_name: str, github: GitHub
) -> None:
    async with fresh_database(private_postgres.url) as url:
        process = launcher.start("processor", AMQP_URL=amqp_url, QUEUE_NAME=queue_name, DATABASE_URL=url)
        await process.ready()
        await private_postgres.stop()
        assert "connection" in await failing(process, "database", "failed: connection: PostgreSQL at ")
        for _ in range(10):
            await github.figures(process)
            await asyncio.sleep(0.5)
        await private_postgres.start()
        await process.ready()
        await has_logged(process, "the database can be used again")
        assert len(logged(process, "the database cannot be used")) == 1
        warnings = [line for line in process.log.splitlines() if '"level": "warning"' in line]
        assert len(warnings) == 1, warnings
        await process.terminate()


# --- RabbitMQ ---


async def test_a_refusal_of_rabbitmq_is_logged_and_shown_in_its_own_words(
    launcher: Launcher, private_rabbit: RabbitServer
) -> None:
    user = f"user{secrets.token_hex(4)}"
    await private_rabbit.ctl("add_user", user, PASSWORD)
    url = f"amqp://{user}:{PASSWORD}@127.0.0.1:{private_rabbit.port}/"
    process = launcher.start("ingest", AMQP_URL=url, WEBHOOK_SECRET=SECRET)
    reason = f"NOT_ALLOWED - access to vhost '/' refused for user '{user}'"
    line = await has_logged(process, "RabbitMQ refuses the connection, retrying")
    assert line["reason"] == reason
    assert await failing(process, "broker", reason)
    assert not logged(process, "receiver started")
    assert len(logged(process, "RabbitMQ refuses the connection, retrying")) == 1
    assert PASSWORD not in process.log


# --- The start ---


async def test_started_is_logged_once_when_it_is_ready(standalone: Start) -> None:
    process = standalone()
    await process.ready()
    await has_logged(process, "processor started")
    (line,) = logged(process, "receiver started")
    assert line["webhook"] == f"{process.service_url}/webhook"
    events = [json.loads(text)["event"] for text in process.log.splitlines()]
    assert events.index("migrated the database") < events.index("receiver started")


@pytest.mark.parametrize("variable", ["SERVICE_PORT", "ADMIN_PORT"])
async def test_a_port_in_use_is_found_before_anything_is_said_to_have_started(
    tmp_path: Path, taken_port: int, variable: str
) -> None:
    ports = {"SERVICE_PORT": free_port(), "ADMIN_PORT": free_port(), variable: taken_port}
    environment = {f"PROMGITHUB_{name}": str(port) for name, port in ports.items()}
    environment |= {"PATH": os.environ["PATH"], "PROMGITHUB_SERVICE_HOST": "127.0.0.1"}
    environment["PROMGITHUB_ADMIN_HOST"] = "127.0.0.1"
    command = [sys.executable, "-m", "promgithub.quickstart", "run"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SOON
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"promgithub: PROMGITHUB_{variable}: cannot listen on 127.0.0.1:{taken_port}" in done.stderr
    assert "started" not in done.stderr
    assert (tmp_path / "data" / "webhook-secret").read_text().strip() not in done.stderr


async def test_a_second_instance_names_the_first_even_if_it_wants_the_same_ports(
    standalone: Start, tmp_path: Path
) -> None:
    first = standalone()
    await first.ready()
    ports = {"SERVICE_PORT": first.service_url, "ADMIN_PORT": first.admin_url}
    second = standalone(**{name: url.rpartition(":")[2] for name, url in ports.items()})
    assert await second.ended(SOON) == 2
    holder = f"process {first.pid} on {socket.gethostname()}"
    assert said(second) == [
        f"promgithub: {tmp_path}/data/spool: another promgithub uses it ({holder}); takes a directory of its own"
    ]


async def test_doubtful_settings_are_logged_at_the_start(standalone: Start) -> None:
    process = standalone(
        QEUE_NAME="x", REDIS_ADDR="redis:6379", EVENT_QUEUE_SIZE="256", DELIVERY_TTL="1d", PREFETCH="10", QUEUE_NAME="q"
    )
    await process.ready()
    problems = {line["problem"].partition(":")[0]: line["problem"] for line in logged(process, "check the settings")}
    assert "did you mean PROMGITHUB_QUEUE_NAME?" in problems["PROMGITHUB_QEUE_NAME"]
    assert "docs/migrating-from-upstream.md" in problems["PROMGITHUB_REDIS_ADDR"]
    assert "503" in problems["PROMGITHUB_EVENT_QUEUE_SIZE"]
    assert "3 days" in problems["PROMGITHUB_DELIVERY_TTL"]
    assert "EVENT_WORKERS x BATCH_SIZE = 500" in problems["PROMGITHUB_PREFETCH"]
    assert "no effect in standalone" in problems["PROMGITHUB_QUEUE_NAME"]


async def test_a_process_does_not_warn_of_settings_of_other_roles_in_a_shared_environment(launcher: Launcher) -> None:
    process = launcher.start(
        "ingest", AMQP_URL=NOWHERE, WEBHOOK_SECRET=SECRET, DATABASE_URL="sqlite:///x.db", PREFETCH="9"
    )
    await has_logged(process, "no connection to RabbitMQ, retrying")
    assert not logged(process, "check the settings")


# --- Deliveries ---


async def test_a_ping_and_the_first_delivery_of_a_repository_are_logged(standalone: Start, github: GitHub) -> None:
    process = standalone()
    await process.ready()
    await github.send_all(process, [builders.delivery({"zen": "x", "hook_id": 7}, event="ping")])
    jobs = [builders.delivery(builders.job(number, repo=builders.repository("octo/one"))) for number in (1, 2)]
    await github.send_all(process, [*jobs, builders.delivery(builders.run(9, repo=builders.repository("octo/two")))])
    await has_logged(process, "ping")
    event = "first delivery of a repository since the start"

    async def both() -> bool | None:
        return {line["repository"] for line in logged(process, event)} == {"octo/one", "octo/two"} or None

    await until(both, SOON)
    assert len(logged(process, event)) == 2


async def test_an_anomaly_is_logged_with_its_repository_run_and_job(standalone: Start, github: GitHub) -> None:
    process = standalone()
    await process.ready()
    first = builders.job(7, run_id=5, repo=builders.repository("octo/one"), status="queued")
    renamed = builders.job(7, run_id=5, repo=builders.repository("octo/two"), status="in_progress", started=5, runner=5)
    await github.send_all(process, [builders.delivery(first), builders.delivery(renamed)])
    line = await has_logged(process, "anomaly")
    assert (line["kind"], line["repository"], line["run_id"], line["job_id"]) == (
        "renamed_repository",
        "octo/two",
        5,
        7,
    )
