"""A database URL that names several servers."""

from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text

from processor.store import engine
from processor.store.engine import create_engine, transaction
from shared.database_urls import check_parameters
from shared.errors import StoreUnavailable
from tests.support import builders
from tests.support.proxy import Proxy
from tests.support.servers.ports import free_port
from tests.support.worker import worker


def several(url: str, *ports: int) -> str:
    """Return a database's URL that names its server by several ports."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    hosts = "&".join(f"host={parts.hostname}:{port}" for port in ports)
    made = urlunsplit(parts._replace(netloc=f"{user}@", query=hosts))
    check_parameters(made)
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT", 2.0)


async def answer(url: str) -> object:
    """Ask the database something over a new engine."""
    made = create_engine(url, connections=1, application="promgithub-test")
    try:
        async with transaction(made) as connection:
            return await connection.scalar(text("SELECT 1"))
    finally:
        await made.dispose()


async def test_a_first_server_that_is_silent_leaves_time_for_the_second(database_url: str) -> None:
    async with Proxy(database_url) as silent:
        silent.black_hole()
        assert await answer(several(database_url, port_of(silent.url), port_of(database_url))) == 1


async def test_a_first_server_that_refuses_is_followed_by_the_second(database_url: str) -> None:
    assert await answer(several(database_url, free_port(), port_of(database_url))) == 1


async def test_if_no_server_is_what_was_asked_for_the_error_says_so(database_url: str) -> None:
    url = several(database_url, free_port(), port_of(database_url)) + "&target_session_attrs=standby"
    with pytest.raises(StoreUnavailable, match="no server is what target_session_attrs asks for") as raised:
        await answer(url)
    assert raised.value.cause == "connection"


def port_of(url: str) -> int:
    return urlsplit(url).port or 5432


async def test_a_new_connection_takes_no_row_of_the_store_for_granted(database_url: str) -> None:
    async with worker(database_url) as counting:
        await counting.count([builders.delivery(builders.job(1))])
        async with counting.engine.begin() as connection:
            # As on a standby that had not received them when it was promoted.
            await connection.execute(text("DELETE FROM gauge_labels"))
        await counting.engine.dispose()
        await counting.count([builders.delivery(builders.job(2))])
        async with counting.engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM gauge_labels")) == 1
