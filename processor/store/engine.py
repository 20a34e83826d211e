"""The database engine: how it is reached, and transactions on it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
from asyncpg.exceptions import TargetServerAttributeNotMatched
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from processor.store.translation import translated
from shared.errors import StoreUnavailable
from shared.known_files import KnownFiles

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a new connection to each server, and for a connection of the pool."""

STATEMENT_TIMEOUT = 30.0
"""Seconds that one statement may take; a server that went silent is noticed by then."""

IDLE_TIMEOUT = 5.0
"""Seconds after which PostgreSQL undoes a transaction whose client says nothing more. A client that is cut off keeps
its locks until then: the row of the lease must be free again before another processor has to take it."""

PING_AFTER = 1.0
"""Seconds without use after which a connection of the pool is tried before it is used.

That takes three round trips, a sixth of those of a batch. If the server has closed a connection, this is known without
a round trip. One that was lost otherwise within the last second fails its transaction, which the caller tries again."""

_USED_AT = "used_at"


def create_engine(url: str, *, connections: int, application: str) -> AsyncEngine:
    """Return an engine for `postgresql://…` or `sqlite:///…` with at most so many connections; connects on first use.

    `application` is how PostgreSQL's `pg_stat_activity` names the connections. libpq's `sslmode` is understood. If
    several servers are given, the one is used that is the primary, unless `target_session_attrs` says otherwise.
    `statement_cache_size=0` prepares no statements by name, for poolers that share sessions between transactions.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(parsed.set(drivername="sqlite+aiosqlite"), hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        _Watch(Path(parsed.database or "")).over(engine)
        return engine
    engine = create_async_engine(
        _asyncpg_url(parsed),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": _connect,
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": STATEMENT_TIMEOUT,
            **_statements(parsed),
            "server_settings": {
                "application_name": application,
                "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT * 1000:.0f}",
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        },
    )
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", partial(_check_idle, engine.dialect))
    return engine


@asynccontextmanager
async def transaction(engine: AsyncEngine, within: float | None = None) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that commits at the end, unless an exception passes.

    `within`: seconds that all of it may take. Raises `StoreUnavailable` (cause `timeout`, if it took longer) and
    `StoreRefused`, for errors of the statements in the block too.
    """
    with translated(engine.url):
        async with asyncio.timeout(within), engine.begin() as connection:
            yield connection


def dialect_of(connection: AsyncConnection | Connection) -> str:
    """Return `postgresql` or `sqlite`."""
    return connection.dialect.name


def _asyncpg_url(url: URL) -> URL:
    sslmode = url.query.get("sslmode")
    url = url.set(drivername="postgresql+asyncpg").difference_update_query(["sslmode", "statement_cache_size"])
    if not isinstance(url.query.get("host", ""), str) and "target_session_attrs" not in url.query:
        url = url.update_query_dict({"target_session_attrs": "primary"})
    return url if sslmode is None else url.update_query_dict({"ssl": sslmode})


def _statements(url: URL) -> dict[str, Any]:
    """Return the arguments about prepared statements, which are prepared by name unless the URL says otherwise.

    A pooler may let several processes use one session. Unique names are then an error and not another's statement.
    """
    if "statement_cache_size" in url.query:
        return {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    prefix = f"promgithub_{uuid.uuid4().hex[:16]}"
    return {"prepared_statement_name_func": (f"{prefix}_{number}" for number in count()).__next__}


async def _connect(*, host: str | Sequence[str] | None = None, port: Any = None, **options: Any) -> asyncpg.Connection:
    """Connect to the first of several servers that answers in time and is what `target_session_attrs` asks for.

    asyncpg's timeout is for all servers together, so that a silent one would leave no time for the others.
    """
    if host is None or isinstance(host, str):
        return await asyncpg.connect(host=host, port=port, **options)
    failures: list[Exception] = []
    for one, its_port in zip(host, port, strict=True):
        try:
            return await asyncpg.connect(host=one, port=its_port, **options)
        except (OSError, asyncpg.CannotConnectNowError, TargetServerAttributeNotMatched) as error:
            failures.append(error)
    raise next((failure for failure in failures if not isinstance(failure, OSError)), failures[0])


def _note_use(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    entry.info[_USED_AT] = time.monotonic()


def _check_idle(
    dialect: Dialect, connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Let the pool replace its connections if one is lost."""
    if entry.driver_connection.is_closed():  # type: ignore[union-attr]
        raise InvalidatePoolError
    used_at = entry.info.get(_USED_AT)  # a new connection has none
    if used_at is None or time.monotonic() - used_at < PING_AFTER:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        if not dialect.is_disconnect(error, connection, None):
            raise
        raise InvalidatePoolError from error


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late (at the first write) for a transaction that reads first.
    connection.isolation_level = None
    # A damaged text must not fail the statement, and so the other rows: what reads the text finds it unreadable.
    connection.driver_connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _Watch:
    """Fails transactions on a SQLite file that was removed or replaced: their effect would end with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = KnownFiles()
        self._opened = False

    def over(self, engine: AsyncEngine) -> None:
        """Watch the file of an engine."""
        event.listen(engine.sync_engine, "do_connect", self._before_connecting)
        event.listen(engine.sync_engine, "connect", self._connected)
        event.listen(engine.sync_engine, "begin", self._check)
        event.listen(engine.sync_engine, "commit", self._check)

    def _before_connecting(self, *_arguments: object) -> None:
        self._check()  # SQLite would create a new file

    def _connected(self, *_arguments: object) -> None:
        if not self._opened:
            self._known.remember([self._path])
            self._opened = True

    def _check(self, *_arguments: object) -> None:
        if problem := self._known.problem():
            raise StoreUnavailable(
                f"SQLite file {problem} while promgithub was using it; move the same file back, or restart", "other"
            )


def _begin_sqlite(connection: object) -> None:
    options = connection.get_execution_options()  # type: ignore[attr-defined]
    connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")  # type: ignore[attr-defined]
