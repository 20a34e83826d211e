"""The files of promgithub are for their owner only: they contain whole payloads, and names of private repositories."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from shared.brokers.spool.file import FILE, LOCK
from shared.brokers.spool.reserve import FILE as RESERVE
from shared.logs import get_logger

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_log = get_logger(__name__)


def create_privately() -> None:
    """Let this process create files with mode 600 and directories with mode 700."""
    os.umask(_OTHERS)


def sqlite_files(database: Path) -> list[Path]:
    """Return the files of a SQLite database: itself, its write-ahead log, and the log's index."""
    return [database.with_name(f"{database.name}{end}") for end in ("", "-wal", "-shm")]


def spool_files(directory: Path) -> list[Path]:
    """Return the existing files of the spool in a directory, also those that were set aside as damaged."""
    return [*directory.glob(f"{FILE}*"), *directory.glob(LOCK), *directory.glob(RESERVE)]


def narrow(directories: Iterable[Path], files: Iterable[Path]) -> None:
    """Set the mode of existing files to 600, and warn about directories that others may open.

    The mode of a directory is never changed, because it may contain files that are not promgithub's.
    """
    for directory in filter(_is_open_to_others, directories):
        _log.warning("other users may open this directory; run chmod 700 on it", directory=str(directory))
    for file in filter(_is_open_to_others, files):
        try:
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            _log.warning("other users may open this file", file=str(file), error=error.strerror)
        else:
            _log.info("changed the mode of a file to 600, because other users could open it", file=str(file))


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:  # it does not exist yet, or opening it will report the problem
        return False
