"""The database engine: how it is reached, and what its errors mean."""

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a new connection, and for one of the pool."""

STATEMENT_TIMEOUT = 30.0
"""Seconds that one statement may take; a server that went silent is noticed by then."""

IDLE_TIMEOUT = 5.0
"""Seconds after which PostgreSQL undoes a transaction whose client says nothing more. A client that is cut off keeps
its locks until then: the row of the lease must be free again before another processor has to take it."""

_REFUSED_CLASSES = ("22", "23", "54")  # data exception, integrity violation, program limit exceeded
_CONNECTION_CLASSES = ("08", "57")  # connection exception, operator intervention
_CAUSES = {"40P01": "deadlock", "40001": "serialization", "55P03": "lock", "57014": "timeout"}
_UNIQUE_VIOLATION = "23505"  # ON CONFLICT can raise it while an index is rebuilt; a retry succeeds


def create_engine(url: str, *, connections: int, application: str) -> AsyncEngine:
    """Return an engine for `postgresql://…` or `sqlite:///…` with at most so many connections; connects on first use.

    `application` is how PostgreSQL's `pg_stat_activity` names the connections. libpq's `sslmode` is understood.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(parsed.set(drivername="sqlite+aiosqlite"), hide_parameters=True)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine
    return create_async_engine(
        _asyncpg_url(parsed),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "command_timeout": STATEMENT_TIMEOUT,
            "server_settings": {
                "application_name": application,
                "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT * 1000:.0f}",
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        },
    )


def is_refusal(error: BaseException) -> bool:
    """Tell whether the database refused the data itself, so that the same data would be refused again."""
    if isinstance(error, OverflowError | UnicodeEncodeError):  # SQLite's driver, before the database sees the value
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    if not state:
        return isinstance(error, DataError | IntegrityError)
    return state.startswith(_REFUSED_CLASSES) and state != _UNIQUE_VIOLATION


def is_failure(error: BaseException) -> bool:
    """Tell whether the database failed in a way that has nothing to do with the data, so that a retry may succeed."""
    return isinstance(error, SQLAlchemyError | OSError | TimeoutError) and not is_refusal(error)


def cause(error: BaseException) -> str:
    """Return the kind of a failure, one of a small set of words."""
    state = _state(error)
    if state in _CAUSES:
        return _CAUSES[state]
    if isinstance(error, TimeoutError | PoolTimeoutError):
        return "timeout"
    if isinstance(error, OSError | InterfaceError) or state[:2] in _CONNECTION_CLASSES:
        return "connection"
    return "other"


def describe(error: BaseException) -> str:
    """Return what went wrong without any value that was being stored: drivers quote those in their messages."""
    original = getattr(error, "orig", None)
    state = _state(error)
    cause = original if original is not None else error
    cause = cause.__cause__ or cause
    return type(cause).__name__ + (f" (SQLSTATE {state})" if state else "")


def _state(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or nothing if it has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def dialect_of(connection: AsyncConnection) -> str:
    """Return `postgresql` or `sqlite`."""
    return connection.dialect.name


def _asyncpg_url(url: URL) -> URL:
    sslmode = url.query.get("sslmode")
    url = url.set(drivername="postgresql+asyncpg").difference_update_query(["sslmode"])
    return url if sslmode is None else url.update_query_dict({"ssl": sslmode})


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late (at the first write) for a transaction that reads first.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: object) -> None:
    options = connection.get_execution_options()  # type: ignore[attr-defined]
    connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")  # type: ignore[attr-defined]
