"""Translate what the database and its drivers raise into the store's own errors.

The texts name the server, the database, the user and the problem. They quote the driver's message only for errors whose
messages contain names but no stored values. SQLAlchemy wraps the errors of asyncpg and sqlite3, but neither `OSError`
nor `TimeoutError`.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from asyncpg.exceptions import ClientConfigurationError, TargetServerAttributeNotMatched
from sqlalchemy import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    PendingRollbackError,
    ProgrammingError,
    ResourceClosedError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.errors import StoreRefused, StoreUnavailable, StoreUnusable

_REFUSED_CLASSES = ("22", "23", "54")  # data exception, integrity violation, program limit exceeded
_CONNECTION_CLASSES = ("08", "57")  # connection exception, operator intervention
_QUOTED_CLASSES = ("08", "25", "28", "3D", "3F", "42", "53", "55", "57", "58")  # their messages contain no stored value
_QUOTED_LENGTH = 200  # characters
_CAUSES = {
    "28": "permission",
    "42501": "permission",
    "40P01": "deadlock",
    "40001": "serialization",
    "55P03": "lock",
    "57014": "timeout",
}
_UNIQUE_VIOLATION = "23505"  # ON CONFLICT can raise it while an index is rebuilt; a retry succeeds

_UNUSABLE = {
    "SQLITE_AUTH": "permission",
    "SQLITE_CANTOPEN": "permission",
    "SQLITE_CORRUPT": "other",
    "SQLITE_NOTADB": "other",
    "SQLITE_PERM": "permission",
    "SQLITE_READONLY": "permission",
}
"""The result codes of SQLite that a retry does not change, and the cause of each."""

_LOST = (DisconnectionError, PendingRollbackError, ResourceClosedError)
"""SQLAlchemy's own errors after a lost connection."""

_FAILURES = (DBAPIError, PoolTimeoutError, OSError, *_LOST)  # `TimeoutError` is an `OSError`

_UNPASSABLE = (OverflowError, UnicodeEncodeError)
"""Errors of SQLite's driver about a value that it cannot pass to the database."""

_SHARED_SESSIONS = "a pooler shares sessions; set its pool_mode to session, or add statement_cache_size=0 to the URL"

_POSTGRESQL = {
    "08": "the connection was lost",
    "08P01": "the server, or a pooler (see its ignore_startup_parameters), refused a request",
    "22": "a value is invalid or out of range",
    "23": "the data violates a constraint",
    "23505": "the data violates a unique constraint",
    "25006": "the server is read-only",
    "25P03": "the transaction was idle for too long",
    "26000": _SHARED_SESSIONS,
    "28": 'the user "{user}" may not log in',
    "28P01": 'the password of the user "{user}" was refused',
    "3D000": 'the database "{database}" does not exist; create it',
    "40001": "another transaction changed the same rows",
    "40P01": "there was a deadlock with another transaction",
    "42501": 'the user "{user}" lacks a privilege',
    "42703": "a column is missing",
    "42P01": "a table is missing",
    "42P05": _SHARED_SESSIONS,
    "53100": "the disk is full",
    "53200": "the server is out of memory",
    "53300": "the server has no free connection",
    "54": "the data exceeds a limit of the server",
    "55P03": "a lock was not available in time",
    "57014": "the statement was cancelled or took too long",
    "57P01": "the server ended the connection",
    "57P02": "the server crashed",
    "57P03": "the server is starting up or shutting down",
}
"""Problems by SQLSTATE, or by its class (the first two characters).

The codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

_SQLITE = {
    "SQLITE_BUSY": "another process has locked the file",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_CONSTRAINT": "the data violates a constraint",
    "SQLITE_CORRUPT": "the file is damaged",
    "SQLITE_ERROR": "the statement failed",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "the file cannot be read or written",
    "SQLITE_MISMATCH": "a value has the wrong type",
    "SQLITE_NOTADB": "the file is not an SQLite database",
    "SQLITE_READONLY": "the file is read-only",
    "SQLITE_TOOBIG": "a value is too large",
}
"""Problems by SQLite's primary result code, with which the extended ones begin.

The codes: https://www.sqlite.org/rescode.html
"""


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise errors of the database at `url` as `StoreUnavailable` or `StoreRefused`; let other errors pass."""
    try:
        yield
    except Exception as error:
        ours = translate(error, url)
        if ours is None:
            raise
        raise ours from error


def translate(error: BaseException, url: URL) -> StoreUnavailable | StoreRefused | None:
    """Translate an error of the database at `url`. Returns None if the error does not come from the database."""
    if isinstance(error, StatementError) and not isinstance(error, DBAPIError):
        # The driver did not get the statement: a value cannot be passed, or the connection is lost.
        inner = None if error.orig is None else translate(error.orig, url)
        return inner or StoreRefused(f"{_place(url)}: {_unpassable(error.orig)}")
    if _is_refusal(error):
        return StoreRefused(f"{_place(url)}: {_problem(error, url)}")
    if isinstance(error, _FAILURES):
        kind = StoreUnusable if _is_unusable(error) else StoreUnavailable
        return kind(f"{_place(url)}: {_problem(error, url)}", _cause(error))
    return None


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, _UNPASSABLE):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = _state(error)
    if state:
        return state.startswith(_REFUSED_CLASSES) and state != _UNIQUE_VIOLATION
    if isinstance(error, ProgrammingError):  # SQLite's driver has no type for a value; or the connection is closed
        return not _sqlite_code(error) and not error.connection_invalidated
    return isinstance(error, DataError | IntegrityError)


def _is_unusable(error: BaseException) -> bool:
    return _primary(_sqlite_code(error)) in _UNUSABLE or isinstance(_original(error), ClientConfigurationError)


def _cause(error: BaseException) -> str:
    """Return the cause: one of the words in `StoreUnavailable`."""
    state, code = _state(error), _primary(_sqlite_code(error))
    if cause := _CAUSES.get(state) or _CAUSES.get(state[:2]) or _UNUSABLE.get(code):
        return cause
    if isinstance(error, PermissionError):
        return "permission"
    if isinstance(error, TimeoutError | PoolTimeoutError):
        return "timeout"
    if (
        isinstance(error, (OSError, InterfaceError, *_LOST))
        or _has_no_server(error)
        or state[:2] in _CONNECTION_CLASSES
    ):
        return "connection"
    return "other"


def _has_no_server(error: BaseException) -> bool:
    return isinstance(_original(error), TargetServerAttributeNotMatched)


def _problem(error: BaseException, url: URL) -> str:
    """Describe an error without quoting a stored value."""
    original = _original(error)
    if state := _state(error):
        text = _postgresql_problem(state, original, url)
    elif code := _sqlite_code(error):
        text = f"{_SQLITE.get(_primary(code), type(original).__name__)} ({code})"
    elif _has_no_server(error):
        text = "no server is what target_session_attrs asks for, by default the primary of several"
    elif isinstance(original, ClientConfigurationError):
        text = _message(original, url)
    elif isinstance(error, PoolTimeoutError):
        text = "no connection of the pool was free in time"
    elif isinstance(error, OSError):
        text = _network_problem(error)
    elif isinstance(error, _LOST) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        text = _POSTGRESQL["08"]
    elif _is_refusal(error):
        text = _unpassable(original)
    else:
        text = type(original).__name__
    return text


def _unpassable(original: BaseException | None) -> str:
    return f"a value cannot be passed to the database ({type(original).__name__})"


def _postgresql_problem(state: str, original: BaseException, url: URL) -> str:
    text = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2]) or type(original).__name__
    text = text.format(user=url.username or "default", database=url.database or "default")
    if constraint := getattr(original, "constraint_name", None):
        text = f'{text} "{constraint}"'
    message = _message(original, url) if state.startswith(_QUOTED_CLASSES) else ""
    quoted = f"{message}; " if message and message not in text else ""
    return f"{text} ({quoted}SQLSTATE {state})"


def _message(original: BaseException, url: URL) -> str:
    """Return the first line of a driver's message, without the password."""
    message = "".join(str(original).splitlines()[:1])[:_QUOTED_LENGTH]
    return message.replace(url.password, "***") if url.password else message


def _network_problem(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved ({error.strerror or 'no reason given'})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None)
        return f"TLS failed ({reason or 'no reason given'})"
    if "SSL" in str(error):  # asyncpg: "rejected SSL upgrade"
        return "the server does not offer TLS"
    if error.errno:
        reason = os.strerror(error.errno).lower()
        # asyncpg looks for a key, a certificate and a password below HOME.
        return f"{error.filename} cannot be read ({reason}); check the variable HOME" if error.filename else reason
    # asyncio lists the attempts if a name has several addresses; asyncpg has no number for a connection that ends.
    return "the connection was lost" if isinstance(error, ConnectionError) else f"no connection could be made ({error})"


def _place(url: URL) -> str:
    """Return the host, port, database and user of a server, without the password, or the path of a file."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database}"
    if url.host:
        server = f"{f'[{url.host}]' if ':' in url.host else url.host}:{url.port or 5432}"
    else:
        hosts = url.query.get("host", "localhost")  # or the directory of a Unix socket
        server = hosts if isinstance(hosts, str) else ", ".join(hosts)
    database = f', database "{url.database}"' if url.database else ""
    return f"PostgreSQL at {server}{database}" + (f', user "{url.username}"' if url.username else "")


def _state(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or "" if it has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _sqlite_code(error: BaseException) -> str:
    """Return the name of SQLite's result code, or "" if the error has none."""
    return getattr(getattr(error, "orig", None), "sqlite_errorname", None) or ""


def _primary(code: str) -> str:
    """Return the name of the primary result code, with which an extended one begins."""
    return "_".join(code.split("_")[:2])


def _original(error: BaseException) -> BaseException:
    """Return the driver's own error."""
    orig = error.orig if isinstance(error, DBAPIError) else None
    return error if orig is None else orig.__cause__ or orig
