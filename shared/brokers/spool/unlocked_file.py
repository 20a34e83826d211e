"""The file of a spool, for a process that does not own its directory."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.brokers.spool.file import FILE, SAFETY
from shared.brokers.spool.integrity import lenient_text
from shared.brokers.spool.reserve import FILE as RESERVE
from shared.errors import SettingsError


class UnlockedFile:
    """The file, opened without locking the directory. Another process may use it: SQLite's own locks are sufficient."""

    def __init__(self, directory: Path) -> None:
        """Open the file, which must exist. Raises `SettingsError` if there is no spool, or `sqlite3.Error`."""
        self._path = directory.absolute() / FILE
        if not self._path.is_file():
            raise SettingsError(f"{directory}: there is no spool; takes the directory of a spool")
        self._inode = self._path.stat().st_ino
        # One thread at a time uses it, but not always the thread that opened it.
        self.connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        self.connection.text_factory = lenient_text
        for pragma in SAFETY:
            self.connection.execute(f"PRAGMA {pragma}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction and commit it at the end. Raises `sqlite3.OperationalError` if the file was renamed."""
        with self.connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            if not self._path.exists() or self._path.stat().st_ino != self._inode:
                raise sqlite3.OperationalError("the file was damaged and has been set aside")
            yield connection

    def check_room(self) -> None:
        """Raise `sqlite3.OperationalError` if the disk is full, so that its room serves the process that drains it."""
        if not self._path.with_name(RESERVE).exists():
            raise sqlite3.OperationalError("the disk is full")

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
