"""The rights that the page about security grants in PostgreSQL are enough, and let nobody make a table."""

import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from processor.housekeeping import Housekeeping
from processor.store.engine import create_engine
from processor.store.migrate import migrate
from processor.store.tables import metadata
from tests import builders, figures
from tests.integration.test_housekeeping import DAY, Holder
from tests.servers.postgres import fresh_database
from tests.worker import worker

PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text("utf-8")
BEFORE, AFTER = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
ROLES = ("promgithub_migrate", "promgithub_run")


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


async def test_the_role_that_runs_counts_exposes_and_forgets_and_can_make_no_table(roles: Roles) -> None:
    async with worker(roles.running) as counting:
        job = builders.job(7, run_id=1, status="completed", started=1, completed=2, runner=5)
        bodies = [builders.run(1), job, builders.push()]
        await counting.count(builders.delivery(body, builders.guid(i)) for i, body in enumerate(bodies))
        assert figures.total(await counting.figures(), "promgithub_push_total") == 1
        lease, later = Holder(counting.store, "test"), counting.now + 100 * DAY
        chores = Housekeeping(counting.store, lease, timedelta(days=8), timedelta(days=30), lambda: later)
        assert await chores.close_stale() == 1
        assert await chores.forget() > len(bodies)
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with counting.engine.begin() as connection:
                await connection.execute(text("CREATE TABLE more (id int)"))
