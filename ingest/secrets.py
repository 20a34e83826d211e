"""The webhook's secrets: one from a setting, or any number from a file that may change at any time."""

from pathlib import Path

from shared.logs import get_logger

_log = get_logger(__name__)

_Stamp = tuple[int, int, int]


class Secrets:
    """The secrets that a delivery may be signed with.

    A file has one secret a line, so that the old and the new one hold while a secret is being changed. It is read
    again whenever it has changed. While it cannot be read, or is empty, what it said last still holds.
    """

    def __init__(self, secret: str | None, path: Path | None) -> None:
        """Exactly one of `secret` and `path` is given."""
        self._path = path
        self._stamp: _Stamp | None = None
        self._known: tuple[bytes, ...] = (secret.encode(),) if secret else ()
        self._complained = False

    def current(self) -> tuple[bytes, ...]:
        """Return the secrets that hold now. Costs one look at the file's change time."""
        if self._path is not None:
            self._refresh(self._path)
        return self._known

    def _refresh(self, path: Path) -> None:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            found = tuple(line.strip().encode() for line in path.read_text("utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            self._complain(type(error).__name__)
            return
        if not found:
            self._complain("empty")
            return
        if self._stamp is not None:
            _log.info("read the webhook's secrets again", secrets=len(found))
        self._stamp, self._known, self._complained = stamp, found, False

    def _complain(self, reason: str) -> None:
        if not self._complained:
            _log.warning("the file of secrets cannot be used; the last ones still hold", reason=reason)
        self._complained = True
