"""Files that a process has open: were they removed or replaced meanwhile?

On Unix, a process can go on writing to a file that was removed or replaced. After a restart, nothing of that is there.
"""

from collections.abc import Iterable
from pathlib import Path


class KnownFiles:
    """Remembers files by device and inode, and compares them with what their paths lead to now."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, int]] = {}

    def remember(self, paths: Iterable[Path]) -> None:
        """Remember the files that these paths lead to now. Raises `OSError` if one does not exist."""
        self._known |= {path: _identity(path) for path in paths}

    def problem(self) -> str:
        """Return which file is no longer there, or "" if each path still leads to the same file."""
        return next((f"{path} {fault}" for path, known in self._known.items() if (fault := _fault(path, known))), "")


def _fault(path: Path, known: tuple[int, int]) -> str:
    try:
        return "" if _identity(path) == known else "was replaced"
    except (FileNotFoundError, NotADirectoryError):
        return "was removed"
    except OSError as error:
        return f"cannot be found ({error.strerror})"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
