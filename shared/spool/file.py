"""The spool's directory: one process at a time has it, and a damaged file in it is set aside, never overwritten."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import SettingsError
from shared.logs import get_logger
from shared.spool.rows import SCHEMA, adapt

FILE = "deliveries.db"
LOCK = "lock"

READ_BYTES = 1024 * 1024
"""Bytes read at a time before the check."""

SAFETY = (
    "synchronous=FULL",  # a commit is on disk when it returns
    "busy_timeout=10000",  # milliseconds to wait for another process that writes
)

PRAGMAS = (
    "journal_mode=WAL",
    *SAFETY,
    "journal_size_limit=67108864",
    "cache_size=-16384",
)

_DAMAGED = frozenset([sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])

_log = get_logger(__name__)


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite says that what is in the file is not what it wrote."""
    # The low byte is the primary code: https://www.sqlite.org/rescode.html
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


class SpoolFile:
    """The directory, locked, and the connection to the file in it."""

    def __init__(self, directory: Path) -> None:
        """Lock and open. Raises `SettingsError` if the directory cannot be used, or another process has it."""
        self._path = directory / FILE
        self._lock = _locked(directory)
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._opened()
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise SettingsError(f"{directory}: cannot be used ({error}); takes a writable directory") from error

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection. Raises `sqlite3.OperationalError` while a damaged file could not be replaced."""
        if self._connection is None:
            raise sqlite3.OperationalError("there is no file")
        return self._connection

    def replace(self, damage: str) -> None:
        """Set the file aside, which turned out to be damaged, and begin a new one.

        Raises `sqlite3.Error` or `OSError` if it cannot be done; may be asked again then.
        """
        if self._connection is not None:
            _set_aside(self._path, damage)
            # Only now: closing it deletes whatever has the name of its log.
            self._connection.close()
            self._connection = None
        self._connection = self._opened()

    def close(self) -> None:
        """Close the file and let another process have the directory."""
        try:
            if self._connection is not None:
                self._connection.close()
        finally:
            os.close(self._lock)

    def _opened(self) -> sqlite3.Connection:
        if damage := _incomplete(self._path):
            _set_aside(self._path, damage)
        if not self._path.exists():
            _create(self._path)
        _read_ahead(self._path)
        # Used by one thread at a time, but not always by the one that opened it.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            damage = _prepare(connection)
        except BaseException:
            connection.close()
            raise
        if not damage:
            return connection
        _set_aside(self._path, damage)
        connection.close()
        return self._opened()


class JoinedFile:
    """The file, opened beside the process that has the directory, or in its absence: SQLite's own locks suffice."""

    def __init__(self, directory: Path) -> None:
        """Open what is there; makes nothing. Raises `SettingsError` if there is no spool, or `sqlite3.Error`."""
        self._path = directory.absolute() / FILE
        if not self._path.is_file():
            raise SettingsError(f"{directory}: there is no spool; takes the directory of one")
        self._inode = self._path.stat().st_ino
        # Used by one thread at a time, but not always by the one that opened it.
        self.connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        for pragma in SAFETY:
            self.connection.execute(f"PRAGMA {pragma}")
        adapt(self.connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do what is done within in one transaction. Raises `sqlite3.OperationalError` if the file was set aside."""
        with self.connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._path.exists() or self._path.stat().st_ino != self._inode:
                raise sqlite3.OperationalError("the file was damaged and has been set aside")
            yield connection

    def close(self) -> None:
        """Close the file."""
        self.connection.close()


def _locked(directory: Path) -> int:
    """Return the descriptor of the lock, which the kernel releases however the process ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be used ({error.strerror}); takes a writable directory") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise SettingsError(f"{directory}: another promgithub uses it; takes a directory of its own") from error
    except OSError as error:
        os.close(lock)
        raise SettingsError(
            f"{directory}: cannot be locked ({error.strerror}); takes a directory on a file system with locks"
        ) from error
    return lock


def _read_ahead(path: Path) -> None:
    """Read a file from end to end, so that the check, which jumps about in it, is eight times as fast."""
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _prepare(connection: sqlite3.Connection) -> str:
    """Set a connection up and check the file; return what is damaged, if anything is."""
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.executescript(SCHEMA)
        adapt(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise
    return "" if verdict == "ok" else str(verdict)


def _create(path: Path) -> None:
    """Make an empty spool under another name first: a file under its own name is whole, however short this is cut."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(unfinished, isolation_level=None)
    try:
        # So that a drained backlog gives its space back; can be set only before there are tables.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.executescript(SCHEMA)
    finally:
        connection.close()
    unfinished.rename(path)
    _sync(path.parent)


def _incomplete(path: Path) -> str:
    """Return what is wrong if SQLite would take the file for a new one, and delete the log beside it."""
    if path.exists():
        return "" if path.stat().st_size else "the file is empty"
    return "the file is missing, but not its log" if _parts(path) else ""


def _parts(path: Path) -> list[Path]:
    """Return the files that there are of a database: itself, its log, and the index of that."""
    return [part for end in ("", "-wal", "-shm") if (part := path.with_name(path.name + end)).exists()]


def _set_aside(path: Path, damage: str) -> None:
    """Rename a database and what belongs to it, so that SQLite's tools still find them together."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}-{time.time_ns() % 10**9:09}")
    for part in _parts(path):
        part.rename(aside.with_name(aside.name + part.name.removeprefix(path.name)))
    _sync(path.parent)
    _log.error(
        "the spool was damaged and has been set aside; what was in it is not counted until it is repaired",
        file=str(aside),
        damage=damage,
    )


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
