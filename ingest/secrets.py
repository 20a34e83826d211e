"""The webhook's secrets: one from a setting, or any number from a file that may change at run time."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from shared.errors import SettingsError
from shared.logs import get_logger
from shared.text_files import read_text

SETTLED_SECONDS = 2.0
"""A file whose time stamp is younger than this, in seconds, is read each time. Time stamps may have a resolution of one
second, so a second change within that second would not be visible in the time stamp."""

_log = get_logger(__name__)

_Stamp = tuple[int, int, int]


class Secrets:
    """The secrets that a delivery may be signed with.

    The file has one secret per line, so that the old and the new secret are both valid during a rotation. Its time
    stamp is checked before each delivery is verified, and the file is read if it has changed. A new secret is therefore
    valid at once. While the file cannot be read or contains no secret, the last known secrets remain valid.
    """

    def __init__(self, secret: str | None, path: Path | None) -> None:
        """Exactly one of `secret` and `path` is given. Raises `SettingsError` if the file contains no secret."""
        self._path = path
        self._stamp: _Stamp | None = None
        self._complained = False
        self._known: Sequence[bytes] = (secret.encode(),) if secret else ()
        if path is not None:
            try:
                self._known = _read(path)
            except (OSError, ValueError) as error:
                reason = _reason(error)
                raise SettingsError(
                    f"PROMGITHUB_WEBHOOK_SECRET_FILE: got {str(path)!r} ({reason}), takes a file with one secret a line"
                ) from error

    def current(self) -> Sequence[bytes]:
        """Return the secrets that are valid now. With a file, this costs one `stat`."""
        if self._path is not None:
            self._refresh(self._path)
        return self._known

    def _refresh(self, path: Path) -> None:
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            found = _read(path)
        except (OSError, ValueError) as error:
            self._complain(_reason(error))
            return
        self._complained = False
        self._stamp = stamp if abs(time.time() - status.st_mtime) > SETTLED_SECONDS else None
        if found != self._known:
            self._known = found
            _log.info("the webhook's secrets have changed", secrets=len(found))

    def _complain(self, reason: str) -> None:
        if not self._complained:
            _log.warning("the file of secrets cannot be used; the last known secrets remain valid", reason=reason)
        self._complained = True


def _read(path: Path) -> Sequence[bytes]:
    """Return the secrets in a file. Raises `OSError` or `ValueError` if there is none."""
    content = read_text(path).encode()
    found = tuple(line.strip() for line in content.splitlines() if line.strip())
    if not found:
        raise ValueError("no secret in it")
    return found


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
