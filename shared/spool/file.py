"""The spool's directory: one process at a time has it, and a damaged file in it is set aside, never overwritten."""

import fcntl
import os
import sqlite3
import time
from pathlib import Path

from shared.errors import SettingsError
from shared.logs import get_logger

FILE = "deliveries.db"
LOCK = "lock"

SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they came
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    attempts INTEGER NOT NULL DEFAULT 0 -- how often a consumer got it
);
CREATE TABLE IF NOT EXISTS dead_letters (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    hook_id TEXT,
    target_type TEXT,
    target_id TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    dead_at INTEGER NOT NULL -- Unix milliseconds
);
"""

PRAGMAS = (
    "auto_vacuum=INCREMENTAL",  # so that a drained backlog gives its space back; before any table is made
    "journal_mode=WAL",
    "synchronous=FULL",  # a commit is on disk when it returns
    "busy_timeout=5000",
    "journal_size_limit=67108864",
)

_log = get_logger(__name__)


class SpoolFile:
    """The directory, locked, and the connection to the file in it."""

    def __init__(self, directory: Path) -> None:
        """Lock and open. Raises `SettingsError` if the directory cannot be used, or another process has it."""
        self.directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"{directory}: cannot be used ({error.strerror}); takes a writable directory"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise SettingsError(f"{directory}: another promgithub uses it; takes a directory of its own") from error
        self.connection = self._opened()

    def close(self) -> None:
        """Close the file and let another process have the directory."""
        self.connection.close()
        os.close(self._lock)

    def _opened(self) -> sqlite3.Connection:
        path = self.directory / FILE
        try:
            return _connect(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise SettingsError(f"{path}: cannot be opened ({error}); takes a writable directory") from error
            _set_aside(path, str(error))
            return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    # Used by one thread at a time, but not always by the one that opened it.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _set_aside(path: Path, damage: str) -> None:
    suffix = time.strftime(".damaged-%Y%m%dT%H%M%SZ", time.gmtime())
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if part.exists():
            part.rename(part.with_name(part.name + suffix))
    _log.error(
        "the spool was damaged and has been set aside; what was in it is not counted until it is repaired",
        file=str(path) + suffix,
        damage=damage,
    )
