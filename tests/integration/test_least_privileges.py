"""The privileges on the page about security are sufficient, and those of PostgreSQL do not allow to create tables."""

import asyncio
import re
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from processor.store.engine import create_engine
from processor.store.migrating import migrate
from processor.store.tables import metadata
from tests.support import builders, figures
from tests.support.fake_github import HOOK, TOKEN, FakeGitHub
from tests.support.github import SECRET, GitHub, until
from tests.support.processes import PROMGITHUB, Launcher, Process
from tests.support.servers.errors import ServerFailedError
from tests.support.servers.postgres import fresh_database
from tests.support.servers.rabbitmq import RabbitServer
from tests.support.worker import worker

DAY = 86_400

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8")
BEFORE, AFTER = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
ROLES = ("promgithub_migrate", "promgithub_run")

RIGHTS = {
    user: [pattern.replace("\\|", "|") for pattern in patterns]
    for user, *patterns in re.findall(r"^\| `([a-z-]+)` \| `(\^.+)` \| `(\^.+)` \| `(\^.+)` \|$", PAGE, re.MULTILINE)
}
"""The table of RabbitMQ's rights, by user: configure, write, read."""

VHOST = "promgithub"

COMMANDS = [shlex.split(line)[1:] for line in PAGE.replace("\\\n", "").splitlines() if line.startswith("rabbitmqctl ")]
"""The commands of rabbitmqctl on the page, without its name."""

POISON = builders.delivery({"workflow_job": {"id": "one"}, "repository": builders.REPOSITORY}, event="workflow_job")


@dataclass(frozen=True)
class Roles:
    """A database, as each of the two roles reaches it."""

    migrating: str
    running: str


@pytest_asyncio.fixture
async def roles(postgres_url: str) -> AsyncIterator[Roles]:
    """Give a database that was set up as the page says; the roles have other names, as a server has each once."""
    suffix, password = secrets.token_hex(4), secrets.token_hex(8)
    names = {role: f"{role}_{suffix}" for role in ROLES}

    def own(sql: str) -> str:
        for role, name in names.items():
            sql = sql.replace(role, name)
        return sql.replace("LOGIN;", f"LOGIN PASSWORD '{password}';")

    def url_of(role: str) -> str:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{names[role]}:{password}@{host}"))

    async with fresh_database(postgres_url) as url:
        admin = await asyncpg.connect(url)
        try:
            await admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as from PostgreSQL 15 on
            await admin.execute(own(BEFORE))
            engine = create_engine(url_of("promgithub_migrate"), connections=1, application="test")
            await migrate(engine)
            await engine.dispose()
            owner = await asyncpg.connect(url_of("promgithub_migrate"))
            await owner.execute(own(AFTER))
            await owner.close()
            yield Roles(url_of("promgithub_migrate"), url_of("promgithub_run"))
        finally:
            for name in names.values():
                await admin.execute(f"DROP OWNED BY {name} CASCADE")
                await admin.execute(f"DROP ROLE {name}")
            await admin.close()


def test_the_page_grants_each_table_of_the_store() -> None:
    granted = re.search(r"^GRANT SELECT, INSERT, UPDATE, DELETE ON ([^;]+) TO", AFTER, re.MULTILINE)
    assert granted
    assert re.split(r",\s+", granted[1]) == sorted(metadata.tables)


def test_the_commands_for_rabbitmq_give_the_rights_in_the_table() -> None:
    given = [command[3:] for command in COMMANDS if command[:3] == ["set_permissions", "--vhost", VHOST]]
    assert {user: rights for user, *rights in given} == RIGHTS
    assert [command[1] for command in COMMANDS if command[0] == "add_user"] == list(RIGHTS)
    assert ["add_vhost", VHOST] in COMMANDS


async def test_the_role_that_runs_counts_exposes_and_forgets_and_can_make_no_table(roles: Roles) -> None:
    async with worker(roles.running) as counting:
        job = builders.job(7, run_id=1, status="completed", started=1, completed=2, runner=5)
        impossible = builders.job(8, run_id=1, status="completed", started=2, completed=1, runner=5)
        bodies = [builders.run(1), job, impossible, builders.push()]
        await counting.count(builders.delivery(body, builders.guid(i)) for i, body in enumerate(bodies))
        assert figures.total(await counting.figures(), "promgithub_push_total") == 1
        await counting.age(100 * DAY)
        chores = counting.chores()
        assert await chores.settle() == 1
        assert await chores.close_stale() == 1
        assert await chores.merge() == 0
        assert await chores.forget() > len(bodies)
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with counting.engine.begin() as connection:
                await connection.execute(text("CREATE TABLE more (id int)"))


async def as_user(rabbit: RabbitServer, user: str, rights: Sequence[str]) -> str:
    """Create a user with rights in `VHOST`; return the URL."""
    await rabbit.ctl("add_user", user, "s3cret")
    await rabbit.ctl("set_permissions", "--vhost", VHOST, user, *rights)
    return f"amqp://{user}:s3cret@127.0.0.1:{rabbit.port}/{VHOST}"


@pytest_asyncio.fixture
async def rabbit(private_rabbit: RabbitServer) -> AsyncIterator[RabbitServer]:
    """Give a broker with an empty `VHOST`."""
    await private_rabbit.ctl("add_vhost", VHOST)
    try:
        yield private_rabbit
    finally:
        await private_rabbit.ctl("delete_vhost", VHOST)
        for user in (*RIGHTS, "limited"):
            with suppress(ServerFailedError):
                await private_rabbit.ctl("delete_user", user)


async def test_the_rights_in_rabbitmq_allow_to_count_to_recover_and_to_replay_dead_letters(
    rabbit: RabbitServer, database_url: str, launcher: Launcher
) -> None:
    assert list(RIGHTS) == ["ingest", "processor", "dead-letters"]
    urls = {user: await as_user(rabbit, user, rights) for user, rights in RIGHTS.items()}
    lost = builders.delivery(builders.push())
    async with FakeGitHub() as api, GitHub() as github:
        api.deliveries.failed(lost, time.time())
        recovery = {"GITHUB_API_URL": api.url, "GITHUB_TOKEN": TOKEN, "GITHUB_HOOKS": HOOK}
        receiver = launcher.start("ingest", AMQP_URL=urls["ingest"], WEBHOOK_SECRET=SECRET)
        processor = launcher.start("processor", AMQP_URL=urls["processor"], DATABASE_URL=database_url, **recovery)
        await asyncio.gather(receiver.ready(), processor.ready())
        assert await github.send(receiver, POISON) == 202
        await _shows(github, processor, "promgithub_recovered_total", 1)
        await _shows(github, processor, "promgithub_push_total", 1)
        await _shows(github, processor, "promgithub_dead_letters", 1)

        environment = {"PROMGITHUB_AMQP_URL": urls["dead-letters"], "PROMGITHUB_DATABASE_URL": database_url}
        assert POISON.id in await _dead_letters(environment, 0, "list")
        assert "1 is dead again" in await _dead_letters(environment, 1, "replay", "--all")
        assert await _dead_letters(environment, 0, "drop", "--all", "--yes") == "1 dropped\n"


async def test_a_process_that_may_not_publish_is_not_ready_and_says_why(
    rabbit: RabbitServer, database_url: str, launcher: Launcher
) -> None:
    configure, write, read = RIGHTS["processor"]
    limited = write.replace(r"promgithub(\.deliveries)?", r"promgithub\.deliveries")
    assert limited != write
    url = await as_user(rabbit, "limited", [configure, limited, read])
    for role, settings in (("ingest", {"WEBHOOK_SECRET": SECRET}), ("processor", {"DATABASE_URL": database_url})):
        process = launcher.start(role, AMQP_URL=url, **settings)
        await until(partial(_says, process, "access to exchange 'promgithub'"), 60)
        assert not await process.is_ready()


async def _shows(github: GitHub, process: Process, name: str, value: float) -> None:
    async def shown() -> bool | None:
        return figures.total(await github.figures(process), name) == value or None

    await until(shown, 60)


async def _says(process: Process, words: str) -> bool | None:
    return words in process.log or None


async def _dead_letters(environment: Mapping[str, str], status: int, *arguments: str) -> str:
    command = [PROMGITHUB, "dead-letters", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == status
    return output.decode()
