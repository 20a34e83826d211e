"""What each error of a database, and of what reaches it, is to the rest of promgithub."""

import asyncio
import errno
import socket
import sqlite3
import ssl

import asyncpg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    InvalidRequestError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
    ResourceClosedError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from processor.store.translation import translate, translated
from shared.errors import PoisonError, StoreError, StoreRefused, StoreUnavailable, StoreUnusable

PASSWORD = "hunter2-correct-horse"
VALUE = "a stored value"
SERVER = make_url(f"postgresql+asyncpg://alice:{PASSWORD}@db.example/ci")
PLACE = 'PostgreSQL at db.example:5432, database "ci", user "alice"'
FILE = make_url("sqlite+aiosqlite:////data/promgithub.db")
PARAMETERS = {"value": VALUE}


class Adapted(Exception):  # noqa: N818
    """What SQLAlchemy puts between its own errors and asyncpg's."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(f"quotes {VALUE}")
        self.sqlstate = sqlstate


def of_asyncpg(raw: Exception, kind: type[DBAPIError] = DBAPIError) -> DBAPIError:
    """Return an error of asyncpg as SQLAlchemy raises it."""
    adapted = Adapted(getattr(raw, "sqlstate", None))
    adapted.__cause__ = raw
    return kind(f"SELECT {VALUE}", PARAMETERS, adapted)


def of_state(state: str, message: str = f"quotes {VALUE}") -> DBAPIError:
    """Return an error with an SQLSTATE as SQLAlchemy raises it."""
    raw = asyncpg.PostgresError(message)
    raw.sqlstate = state
    return of_asyncpg(raw)


def of_sqlite(raw: sqlite3.Error, code: str | None, kind: type[DBAPIError]) -> DBAPIError:
    """Return an error of SQLite as SQLAlchemy raises it."""
    if code is not None:
        raw.sqlite_errorname = code
    return kind(f"SELECT {VALUE}", PARAMETERS, raw)


def before_the_driver(error: Exception) -> StatementError:
    """Return an error that Python raised while a statement was prepared, as SQLAlchemy raises it."""
    return StatementError(f"quotes {VALUE}", f"SELECT {VALUE}", PARAMETERS, error)


@pytest.mark.parametrize(
    ("error", "cause", "problem"),
    [
        (of_state("08006", ""), "connection", "the connection was lost (SQLSTATE 08006)"),
        (
            of_state("08P01", "unsupported startup parameter: tcp_keepalives_idle"),
            "connection",
            (
                "the server, or a pooler (see its ignore_startup_parameters), refused a request "
                "(unsupported startup parameter: tcp_keepalives_idle; SQLSTATE 08P01)"
            ),
        ),
        (of_state("23505"), "other", "the data violates a unique constraint (SQLSTATE 23505)"),
        (
            of_state("26000", 'prepared statement "promgithub_1" does not exist'),
            "other",
            (
                "a pooler shares sessions; set its pool_mode to session, or add statement_cache_size=0 to the URL "
                "(SQLSTATE 26000)"
            ),
        ),
        (
            of_state("25006", "cannot execute INSERT in a read-only transaction"),
            "other",
            "the server is read-only (cannot execute INSERT in a read-only transaction; SQLSTATE 25006)",
        ),
        (
            of_state("28000", 'role "alice" does not exist'),
            "permission",
            'the user "alice" may not log in (role "alice" does not exist; SQLSTATE 28000)',
        ),
        (
            of_state("28P01", 'password authentication failed for user "alice"'),
            "permission",
            (
                'the password of the user "alice" was refused '
                '(password authentication failed for user "alice"; SQLSTATE 28P01)'
            ),
        ),
        (
            of_state("3D000", 'database "ci" does not exist'),
            "other",
            'the database "ci" does not exist; create it (SQLSTATE 3D000)',
        ),
        (of_state("40001"), "serialization", "another transaction changed the same rows (SQLSTATE 40001)"),
        (of_state("40P01"), "deadlock", "there was a deadlock with another transaction (SQLSTATE 40P01)"),
        (
            of_state("42501", "permission denied for table jobs"),
            "permission",
            'the user "alice" lacks a privilege (permission denied for table jobs; SQLSTATE 42501)',
        ),
        (
            of_state("42P01", 'relation "jobs" does not exist'),
            "other",
            'a table is missing (relation "jobs" does not exist; SQLSTATE 42P01)',
        ),
        (
            of_state("53100", "could not extend file"),
            "other",
            "the disk is full (could not extend file; SQLSTATE 53100)",
        ),
        (
            of_state("53300", "sorry, too many clients already"),
            "other",
            "the server has no free connection (sorry, too many clients already; SQLSTATE 53300)",
        ),
        (
            of_state("55P03", "canceling statement due to lock timeout"),
            "lock",
            "a lock was not available in time (canceling statement due to lock timeout; SQLSTATE 55P03)",
        ),
        (
            of_state("57014", "canceling statement due to statement timeout"),
            "timeout",
            (
                "the statement was cancelled or took too long "
                "(canceling statement due to statement timeout; SQLSTATE 57014)"
            ),
        ),
        (
            of_state("57P01", "terminating connection due to administrator command"),
            "connection",
            "the server ended the connection (terminating connection due to administrator command; SQLSTATE 57P01)",
        ),
        (
            of_state("57P03", "the database system is starting up"),
            "connection",
            "the server is starting up or shutting down (the database system is starting up; SQLSTATE 57P03)",
        ),
        (of_state("XX000"), "other", "PostgresError (SQLSTATE XX000)"),
        (of_asyncpg(asyncpg.InterfaceError("?"), InterfaceError), "connection", "InterfaceError"),
        (PoolTimeoutError(), "timeout", "no connection of the pool was free in time"),
        (DisconnectionError(), "connection", "the connection was lost"),
        (PendingRollbackError(), "connection", "the connection was lost"),
        (ResourceClosedError(), "connection", "the connection was lost"),
        (TimeoutError(), "timeout", "no answer in time"),
        (OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 5432)"), "connection", "connection refused"),
        (OSError(errno.EHOSTUNREACH, "Connect call failed"), "connection", "no route to host"),
        (OSError("Multiple exceptions: ..."), "connection", "no connection could be made (Multiple exceptions: ...)"),
        (ConnectionError("unexpected connection_lost() call"), "connection", "the connection was lost"),
        (ConnectionError("server rejected SSL upgrade"), "connection", "the server does not offer TLS"),
        (ssl.SSLError(1, "[SSL] x"), "connection", "TLS failed (no reason given)"),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "connection",
            "the host name cannot be resolved (Name or service not known)",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/home/x/.postgresql/postgresql.key"),
            "permission",
            "/home/x/.postgresql/postgresql.key cannot be read (permission denied); check the variable HOME",
        ),
        (before_the_driver(ConnectionResetError()), "connection", "the connection was lost"),
        (before_the_driver(PoolTimeoutError()), "timeout", "no connection of the pool was free in time"),
    ],
)
def test_what_a_retry_may_mend_is_unavailable_with_its_cause(error: Exception, cause: str, problem: str) -> None:
    ours = translate(error, SERVER)
    assert isinstance(ours, StoreUnavailable)
    assert (ours.cause, str(ours)) == (cause, f"{PLACE}: {problem}")


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (of_state("22003"), "a value is invalid or out of range (SQLSTATE 22003)"),
        (of_state("23514"), "the data violates a constraint (SQLSTATE 23514)"),
        (of_state("54000"), "the data exceeds a limit of the server (SQLSTATE 54000)"),
        (of_asyncpg(asyncpg.DataError(VALUE)), "a value is invalid or out of range (SQLSTATE 22000)"),
        (before_the_driver(AttributeError(VALUE)), "a value cannot be passed to the database (AttributeError)"),
        (
            before_the_driver(InvalidRequestError(VALUE)),
            "a value cannot be passed to the database (InvalidRequestError)",
        ),
    ],
)
def test_what_the_same_data_would_meet_again_is_refused(error: Exception, problem: str) -> None:
    ours = translate(error, SERVER)
    assert isinstance(ours, StoreRefused)
    assert str(ours) == f"{PLACE}: {problem}"


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        (
            of_sqlite(sqlite3.OperationalError(VALUE), "SQLITE_BUSY", OperationalError),
            StoreUnavailable,
            "another process has locked the file (SQLITE_BUSY)",
        ),
        (
            of_sqlite(sqlite3.OperationalError(VALUE), "SQLITE_READONLY_DBMOVED", OperationalError),
            StoreUnusable,
            "the file is read-only (SQLITE_READONLY_DBMOVED)",
        ),
        (
            of_sqlite(sqlite3.IntegrityError(VALUE), "SQLITE_CONSTRAINT_CHECK", IntegrityError),
            StoreRefused,
            "the data violates a constraint (SQLITE_CONSTRAINT_CHECK)",
        ),
        (
            of_sqlite(sqlite3.DataError(VALUE), "SQLITE_TOOBIG", DataError),
            StoreRefused,
            "a value is too large (SQLITE_TOOBIG)",
        ),
        (
            of_sqlite(sqlite3.ProgrammingError(VALUE), None, ProgrammingError),
            StoreRefused,
            "a value cannot be passed to the database (ProgrammingError)",
        ),
        (OverflowError(VALUE), StoreRefused, "a value cannot be passed to the database (OverflowError)"),
        (
            UnicodeEncodeError("utf-8", VALUE, 0, 1, "surrogates"),
            StoreRefused,
            "a value cannot be passed to the database (UnicodeEncodeError)",
        ),
    ],
)
def test_errors_of_sqlite_are_named_by_its_result_code(error: Exception, kind: type[StoreError], problem: str) -> None:
    ours = translate(error, FILE)
    assert type(ours) is kind
    assert str(ours) == f"SQLite file /data/promgithub.db: {problem}"


def test_a_connection_that_sqlite_has_closed_is_not_held_against_the_data() -> None:
    closed = of_sqlite(sqlite3.ProgrammingError("Cannot operate on a closed database."), None, ProgrammingError)
    closed.connection_invalidated = True
    ours = translate(closed, FILE)
    assert isinstance(ours, StoreUnavailable)
    assert str(ours) == "SQLite file /data/promgithub.db: the connection was lost"


def test_the_name_of_a_constraint_is_told() -> None:
    raw = asyncpg.CheckViolationError(VALUE)
    raw.constraint_name = "no_13 {x}"
    assert str(translate(of_asyncpg(raw), SERVER)).endswith('violates a constraint "no_13 {x}" (SQLSTATE 23514)')


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u@[::1]:1/ci", '[::1]:1, database "ci", user "u"'),
        ("postgresql:///ci?host=/run/postgresql", '/run/postgresql, database "ci"'),
        ("postgresql:///ci?host=one&host=two", 'one, two, database "ci"'),
        ("postgresql://u@h", 'h:5432, user "u"'),
        ("postgresql:///", "localhost"),
    ],
)
def test_any_form_of_a_url_says_where_the_database_is(url: str, place: str) -> None:
    assert str(translate(TimeoutError(), make_url(url))) == f"PostgreSQL at {place}: no answer in time"


@pytest.mark.parametrize(
    "error",
    [
        PoisonError("no_event", "x"),
        StoreError("another release's"),
        StoreUnavailable("x", "lock"),
        AttributeError("a bug"),
        InvalidRequestError("a bug"),
        asyncio.CancelledError(),
    ],
)
def test_any_other_error_stays_what_it_is(error: BaseException) -> None:
    assert translate(error, SERVER) is None
    with pytest.raises(type(error)) as raised, translated(SERVER):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("state", ["22003", "23505", "23514", "40001", "54000", "P0001", "XX000"])
def test_no_text_quotes_a_value_or_a_password(state: str) -> None:
    with pytest.raises(StoreError) as raised, translated(SERVER):
        raise of_state(state)
    assert VALUE not in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_a_message_of_the_driver_is_shown_without_the_password_and_without_its_further_lines() -> None:
    text = str(translate(of_state("28000", f"no entry for {PASSWORD}\nDETAIL: {VALUE}"), SERVER))
    assert text == f'{PLACE}: the user "alice" may not log in (no entry for ***; SQLSTATE 28000)'


@pytest.mark.parametrize(
    ("code", "cause"),
    [("SQLITE_NOTADB", "other"), ("SQLITE_CANTOPEN", "permission"), ("SQLITE_READONLY", "permission")],
)
def test_a_file_that_no_retry_makes_usable_is_unusable(code: str, cause: str) -> None:
    ours = translate(of_sqlite(sqlite3.OperationalError(VALUE), code, OperationalError), FILE)
    assert isinstance(ours, StoreUnusable)
    assert ours.cause == cause
