"""The spool's directory. One process at a time locks it. A damaged file in it is renamed, never overwritten."""

import fcntl
import os
import socket
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.brokers.spool.integrity import lenient_text
from shared.brokers.spool.reserve import RESERVE_BYTES, SCARCE_BYTES, SPARE_BYTES, Reserve
from shared.brokers.spool.salvage import Salvaged, salvage
from shared.brokers.spool.tables import SCHEMA
from shared.errors import SettingsError
from shared.known_files import KnownFiles
from shared.logs import get_logger

FILE = "deliveries.db"
LOCK = "lock"

READ_BYTES = 1024 * 1024
"""Size of a read in `_read_ahead`, in bytes."""

SAFETY = (
    "synchronous=FULL",  # a commit is on disk when it returns
    "busy_timeout=10000",  # milliseconds to wait for the write lock of another process
)

PRAGMAS = (
    "journal_mode=WAL",
    *SAFETY,
    "journal_size_limit=67108864",
    "cache_size=-16384",
)

LOGGED_GAPS = 10
"""Maximum number of unreadable ranges in a log line."""

_DAMAGED = frozenset([sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB])
_FULL = frozenset([sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE])

_log = get_logger(__name__)


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite reports that the file is damaged."""
    # The low byte is the primary code: https://www.sqlite.org/rescode.html
    return isinstance(error, sqlite3.DatabaseError) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def is_lack_of_room(error: sqlite3.Error) -> bool:
    """Return whether SQLite reports that the disk has no room for a write."""
    # SQLite reports a quota that is used up as SQLITE_IOERR_WRITE.
    return getattr(error, "sqlite_errorcode", 0) in _FULL


@dataclass(frozen=True, slots=True)
class Condition:
    """What may be done with the spool now.

    `refusal` says why no delivery may be added; it is empty if one may. `lost`: the reason is a file that was removed
    or replaced. `cramped`: the disk may not even have room for deletions, so nothing may be handed out.
    """

    refusal: str = ""
    lost: bool = False
    cramped: bool = False


class SpoolFile:
    """The locked directory, and the connection to the file in it."""

    def __init__(self, directory: Path, companion: Path | None = None) -> None:
        """Lock and open. Raises `SettingsError` if the directory cannot be used, or another process has locked it.

        Once the file `companion` exists, the spool accepts deliveries only while it stays the same file.
        """
        self._path = directory / FILE
        self._lock = _locked(directory)
        self._companion = companion
        self._known = KnownFiles()
        self._lost = False
        self._connection: sqlite3.Connection | None = None
        try:
            self._reserve = Reserve(directory)
            self._reserve.adapt()  # opening the file needs a little room
            self._connection = self._opened()
            self._known.remember([directory / LOCK])
        except (sqlite3.Error, OSError) as error:
            os.close(self._lock)
            raise SettingsError(f"{directory}: cannot be used ({error}); takes a writable directory") from error

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection. Raises `sqlite3.OperationalError` if a damaged file has not been replaced yet."""
        if self._connection is None:
            raise sqlite3.OperationalError("there is no file")
        return self._connection

    def replace(self, damage: str) -> None:
        """Rename the damaged file, and create a new one with the rows that can still be read.

        Raises `sqlite3.Error` or `OSError` if that fails. It may then be called again.
        """
        if self._connection is not None:
            _create(self._path, damage)
            # Not before the renaming: `close` deletes the log (the file `…-wal`).
            self._connection.close()
            self._connection = None
        self._connection = self._opened()

    def condition(self) -> Condition:
        """Check the files and the room on the disk."""
        if self._companion is not None and self._companion.exists():
            self._known.remember([self._companion])
            self._companion = None
        if problem := self._known.problem():
            self._save_log()
            return Condition(f"{problem} while promgithub was using it", lost=True)
        self._lost = False
        try:
            self._reserve.adapt()
        except OSError as error:
            return Condition(f"the reserve cannot be written ({error.strerror})")
        return Condition() if self._reserve.held else self._without_reserve()

    def release_reserve(self) -> bool:
        """Make room for deletions; return False if that was done before. Raises `OSError`."""
        held = self._reserve.held
        self._reserve.release()
        return held

    def _without_reserve(self) -> Condition:
        free, needed = self._reserve.free, RESERVE_BYTES + SPARE_BYTES
        refusal = f"the disk is full: {needed // 2**20} MiB must be free"
        return Condition(refusal, cramped=free < SCARCE_BYTES)

    def _save_log(self) -> None:
        """Copy the log into the file, once: if the log was removed, the file alone then has every delivery."""
        if not self._lost:
            self._lost = True
            with suppress(sqlite3.Error):
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close the file and unlock the directory."""
        try:
            if self._connection is not None:
                self._connection.close()
        finally:
            os.close(self._lock)

    def _opened(self) -> sqlite3.Connection:
        if damage := _incomplete(self._path):
            _set_aside(self._path, damage, Salvaged(0, []))
        if not self._path.exists():
            if _replacement(self._path).exists():  # a crash came between the renamings
                _replacement(self._path).rename(self._path)
            else:
                _create(self._path)
        _read_ahead(self._path)
        # One thread at a time uses it, but not always the thread that opened it.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            damage = _prepare(connection)
        except BaseException:
            connection.close()
            raise
        if not damage:
            self._known.remember(_parts(self._path))
            return connection
        _create(self._path, damage)
        connection.close()
        return self._opened()


def check_unlocked(directory: Path) -> None:
    """Raise `SettingsError` if another process has locked the directory. Creates nothing."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        lock = os.open(directory / LOCK, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(directory, lock) from error
        finally:
            os.close(lock)


def _in_use(directory: Path, lock: int) -> SettingsError:
    """Return the error about a directory that another process has locked; it names that process."""
    holder = os.pread(lock, 200, 0).decode(errors="replace").strip()
    return SettingsError(
        f"{directory}: another promgithub uses it ({holder or 'it does not say which'}); takes a directory of its own"
    )


def _locked(directory: Path) -> int:
    """Return the descriptor of the lock. The kernel releases the lock when the process ends, also after a crash."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be used ({error.strerror}); takes a writable directory") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        ours = _in_use(directory, lock)
        os.close(lock)
        raise ours from error
    except OSError as error:
        os.close(lock)
        raise SettingsError(
            f"{directory}: cannot be locked ({error.strerror}); takes a directory on a file system with locks"
        ) from error
    with suppress(OSError):  # on a full disk, the holder remains unnamed
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


def _read_ahead(path: Path) -> None:
    """Read a file sequentially into the page cache. This makes `PRAGMA quick_check` eight times as fast."""
    buffer = bytearray(READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _prepare(connection: sqlite3.Connection) -> str:
    """Configure a connection and check the file; return a description of the damage, or an empty string."""
    connection.text_factory = lenient_text
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.executescript(SCHEMA)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise
    return "" if verdict == "ok" else str(verdict)


def _create(path: Path, damage: str = "") -> None:
    """Create a spool: empty or, in place of a damaged one, with what can be read of that.

    It is created under a temporary name, then renamed, so that a crash leaves no incomplete file.
    """
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(unfinished, isolation_level=None)
    try:
        # Lets the file shrink after a backlog. It can be set only before the first table is created.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.executescript(SCHEMA)
        salvaged = salvage(path, connection) if damage else None
    finally:
        connection.close()
    if salvaged is not None:
        unfinished = unfinished.rename(_replacement(path))
        _set_aside(path, damage, salvaged)
    unfinished.rename(path)
    _sync(path.parent)


def _replacement(path: Path) -> Path:
    """Return the name of a complete new file, before the damaged one is set aside."""
    return path.with_name(f"{path.name}.salvaged")


def _incomplete(path: Path) -> str:
    """Return a description of the damage if SQLite would treat the file as new and delete its log, else "".

    SQLite does so with an empty or missing file.
    """
    if path.exists():
        return "" if path.stat().st_size else "the file is empty"
    return "the file is missing, but not its log" if _parts(path) else ""


def _parts(path: Path) -> list[Path]:
    """Return the existing files of a database: the database, its write-ahead log, and the log's index."""
    return [part for end in ("", "-wal", "-shm") if (part := path.with_name(path.name + end)).exists()]


def _set_aside(path: Path, damage: str, salvaged: Salvaged) -> None:
    """Rename a database, its log and the log's index in the same way, so that SQLite's tools find all of them."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}-{time.time_ns() % 10**9:09}")
    for part in _parts(path):
        part.rename(aside.with_name(aside.name + part.name.removeprefix(path.name)))
    _sync(path.parent)
    _log.error(
        "the spool was damaged and has been set aside; the rows that could be read are in a new spool",
        file=str(aside),
        damage=damage,
        saved=salvaged.saved,
        unreadable=[gap._asdict() for gap in salvaged.gaps[:LOGGED_GAPS]],
    )


def _sync(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
