"""What a store raises when a real database, or the way to it, fails."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import Executable, make_url, select, text

from processor.store import Store, recovery
from processor.store import engine as engines
from processor.store.engine import create_engine
from processor.store.lease import NAME
from processor.store.migrating import migrate
from processor.store.tables import cursors, deliveries
from shared.errors import PoisonError, StoreRefused, StoreUnavailable
from tests.support.github import until
from tests.support.servers.postgres import PostgresServer
from tests.support.worker import Worker, worker

PASSWORD = "hunter2-correct-horse"
VALUE = "a stored value"
LARGE = 2**70


@asynccontextmanager
async def store_on(url: str, **changes: str | int) -> AsyncIterator[Store]:
    """Yield a store on a database whose URL differs in these parts."""
    changed = make_url(url).set(**changes).render_as_string(hide_password=False)  # type: ignore[arg-type]
    store = Store(create_engine(changed, connections=1, application="test"), 100)
    try:
        yield store
    finally:
        await store.close()


def place_of(url: str, **changes: str | int) -> str:
    """Return how errors name a database."""
    where = make_url(url).set(**changes)  # type: ignore[arg-type]
    return f'PostgreSQL at {where.host}:{where.port}, database "{where.database}", user "{where.username}"'


async def failure_of(store: Store) -> StoreUnavailable:
    """Return what a store raises that cannot be used."""
    raised = []
    for work in (store.ping(), store.snapshot(NAME, "test"), nothing(store), migrate(store._engine)):
        with pytest.raises(StoreUnavailable) as error:
            await work
        raised.append(error.value)
    assert len({(error.cause, str(error)) for error in raised}) == 1
    return raised[0]


async def execute(store: Store, statement: Executable) -> None:
    async with store.connection() as connection:
        await connection.execute(statement)


async def terminate_others(url: str) -> None:
    """Let the server close every connection to a database."""
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await admin.close()
    await asyncio.sleep(0.2)


async def nothing(store: Store) -> None:
    async with store.batch():
        pass


async def test_an_absent_server_is_named_by_its_host_and_port(database_url: str) -> None:
    async with store_on(database_url, port=1, password=PASSWORD) as store:
        error = await failure_of(store)
    assert (error.cause, str(error)) == ("connection", f"{place_of(database_url, port=1)}: connection refused")


async def test_an_absent_database_is_named(database_url: str) -> None:
    async with store_on(database_url, database="nowhere") as store:
        error = await failure_of(store)
    assert error.cause == "other"
    assert str(error).endswith(': the database "nowhere" does not exist; create it (SQLSTATE 3D000)')


@pytest_asyncio.fixture
async def guarded_url(private_postgres: PostgresServer) -> AsyncIterator[str]:
    """Give the URL of a server that asks every user for a password, with a wrong one in it."""
    admin = await asyncpg.connect(private_postgres.url)
    rules = await admin.fetchval("SHOW hba_file")
    url = make_url(private_postgres.url).set(password=PASSWORD).render_as_string(hide_password=False)

    async def is_refused() -> bool | None:
        try:
            await (await asyncpg.connect(url)).close()
        except asyncpg.InvalidPasswordError:
            return True
        return None

    async def use_rule(method: str) -> None:
        await admin.execute(f"COPY (SELECT 'host all all all {method}') TO '{rules}'")
        await admin.execute("SELECT pg_reload_conf()")

    await use_rule("scram-sha-256")
    try:
        await until(is_refused, 10)
        yield url
    finally:
        await use_rule("trust")
        await admin.close()


async def test_a_wrong_password_is_named_and_not_shown(guarded_url: str) -> None:
    async with store_on(guarded_url) as store:
        error = await failure_of(store)
    assert error.cause == "permission"
    said = 'password authentication failed for user "postgres"'
    assert str(error).endswith(f': the password of the user "postgres" was refused ({said}; SQLSTATE 28P01)')
    assert PASSWORD not in str(error)


async def test_a_server_that_does_not_answer_is_a_timeout(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "CONNECT_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with store_on(database_url, port=port) as store:
            error = await failure_of(store)
    assert (error.cause, str(error)) == ("timeout", f"{place_of(database_url, port=port)}: no answer in time")


async def test_a_transaction_that_takes_longer_than_it_may_is_a_timeout(counting: Worker) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        async with counting.store.connection(within=0.1):
            await asyncio.sleep(5)
    assert raised.value.cause == "timeout"
    await counting.store.ping()


async def test_a_snapshot_that_takes_longer_than_it_may_is_a_timeout(database_url: str) -> None:
    async with worker(database_url) as counting:
        async with counting.store.connection() as blocking:
            await blocking.execute(text("LOCK TABLE leases"))
            with pytest.raises(StoreUnavailable) as raised:
                await counting.store.snapshot(NAME, "test", within=0.1)
        assert raised.value.cause == "timeout"
        await counting.store.ping()


async def test_a_timeout_within_a_transaction_is_one_of_the_database(counting: Worker) -> None:
    with pytest.raises(StoreUnavailable) as raised:
        async with counting.store.batch(), asyncio.timeout(0.1):
            await asyncio.sleep(5)
    assert raised.value.cause == "timeout"


@pytest.mark.parametrize("then", ["SELECT 1", None], ids=["at the next statement", "at the commit"])
async def test_a_cut_connection_is_unavailable_wherever_the_transaction_was(
    database_url: str, then: str | None
) -> None:
    async def cut(store: Store) -> None:
        async with store.connection() as connection:
            backend = await connection.scalar(text("SELECT pg_backend_pid()"))
            admin = await asyncpg.connect(database_url)
            await admin.execute("SELECT pg_terminate_backend($1)", backend)
            await admin.close()
            await asyncio.sleep(0.2)
            if then is not None:
                await connection.execute(text(then))

    async with store_on(database_url) as store:
        with pytest.raises(StoreUnavailable, match="the connection was lost") as raised:
            await cut(store)
    assert raised.value.cause == "connection"


@pytest.mark.parametrize("ping_after", [0.0, 60.0], ids=["idle", "just used"])
async def test_a_connection_that_the_server_has_closed_is_replaced(
    database_url: str, ping_after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PING_AFTER", ping_after)
    async with store_on(database_url) as store:
        for _ in range(2):
            await store.ping()
        await terminate_others(database_url)
        await store.ping()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(select(cursors).where(cursors.c.failed_at == LARGE), id="a number out of range"),
        pytest.param(select(cursors).where(cursors.c.hook == f"{VALUE} \ud800"), id="a text that is no Unicode"),
        pytest.param(select(deliveries).where(deliveries.c.id == VALUE), id="a value of another type"),
        pytest.param(text("SELECT :missing"), id="a value that is missing"),
    ],
)
async def test_a_value_that_the_database_cannot_take_is_refused_and_not_quoted(
    counting: Worker, statement: Executable
) -> None:
    with pytest.raises(StoreRefused) as raised:
        await execute(counting.store, statement)
    assert VALUE not in str(raised.value)
    assert str(LARGE) not in str(raised.value)


@pytest.mark.parametrize("error", [PoisonError("no_event", "x"), AttributeError("a bug"), asyncio.CancelledError()])
async def test_an_error_that_is_not_the_databases_passes_as_it_is_and_undoes_the_transaction(
    counting: Worker, error: BaseException
) -> None:
    async def fail() -> None:
        async with counting.store.connection() as connection:
            await recovery.move_cursor(connection, "x", 1)
            raise error

    with pytest.raises(type(error)) as raised:
        await fail()
    assert raised.value is error
    async with counting.store.connection() as connection:
        assert await recovery.cursor(connection, "x") is None
