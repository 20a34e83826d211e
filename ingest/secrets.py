"""The webhook's secrets: one from a setting, or any number from a file that may change at any time."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from shared.errors import SettingsError
from shared.logs import get_logger

MAX_BYTES = 64 * 1024
"""Bytes that a file of secrets may have: anything larger is another file, named by mistake."""

SETTLED_SECONDS = 2.0
"""A file that changed so recently may change again without a trace in its time stamp, which may be coarse: until then
it is read each time. (A second is the coarsest that a file system in use today keeps.)"""

_log = get_logger(__name__)

_Stamp = tuple[int, int, int]


class Secrets:
    """The secrets that a delivery may be signed with.

    A file has one secret a line, so that the old and the new one hold while a secret is being changed. It is looked at
    before each delivery is verified, and read if it has changed, so that no delivery is refused for a secret that is
    already there. While it cannot be read, or holds none, what it said last still holds.
    """

    def __init__(self, secret: str | None, path: Path | None) -> None:
        """Exactly one of `secret` and `path` is given. Raises `SettingsError` if the file holds no secret."""
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
        """Return the secrets that hold now. Costs one look at the time stamp of the file, if there is one."""
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
            _log.warning("the file of secrets cannot be used; the last ones still hold", reason=reason)
        self._complained = True


def _read(path: Path) -> Sequence[bytes]:
    """Return the secrets in a file. Raises `OSError` or `ValueError` if there is none."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    found = tuple(line.strip() for line in content.splitlines() if line.strip())
    if not found:
        raise ValueError("no secret in it")
    return found


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
