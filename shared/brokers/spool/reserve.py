"""A file that occupies disk space. It is deleted when the disk is full, because deleting deliveries needs room too.

SQLite writes each deletion to its log before it frees anything, and a standalone promgithub counts into a database on
the same disk.
"""

import errno
import os
from pathlib import Path

FILE = "reserve"

RESERVE_BYTES = 64 * 1024**2
"""Size of the reserve, in bytes.

It has room for the longest log that a checkpoint may have to copy (`writer.GROUP_BYTES` and the largest delivery), for
the log of the deletions, and for what a standalone promgithub counts meanwhile.
"""

SCARCE_BYTES = 4 * 1024**2
"""The reserve is released when the disk has less free space than this, in bytes. With less than this and no reserve,
nothing is handed out: its deletion might find no room."""

SPARE_BYTES = 16 * 1024**2
"""Free space beside the reserve, in bytes, that must exist before the reserve is taken again."""

_NO_ROOM = frozenset([errno.ENOSPC, errno.EDQUOT])


class Reserve:
    """The reserve in a directory."""

    def __init__(self, directory: Path) -> None:
        """Find the reserve in the directory. Raises `OSError`."""
        self._path = directory / FILE
        self._directory = directory
        self.held = self._path.exists() and self._path.stat().st_size == RESERVE_BYTES
        """Whether the reserve occupies its space. If not, the disk is full, and no delivery may be added."""

    @property
    def free(self) -> int:
        """Free space on the disk, in bytes, without the reserve."""
        status = os.statvfs(self._directory)
        return status.f_bavail * status.f_frsize

    def release(self) -> None:
        """Give the space back to the file system. Raises `OSError` if that fails."""
        self._path.unlink(missing_ok=True)
        self.held = False

    def adapt(self) -> None:
        """Release the reserve if the disk is nearly full, or take it if there is room. Raises `OSError`."""
        if not self.held:
            self._take()
        elif self.free < SCARCE_BYTES:
            self.release()

    def _take(self) -> None:
        if self.free < RESERVE_BYTES + SPARE_BYTES:
            return
        descriptor = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError as error:
            self._path.unlink()
            if error.errno not in _NO_ROOM:
                raise
        else:
            self.held = True
        finally:
            os.close(descriptor)
