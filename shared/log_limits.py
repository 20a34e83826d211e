"""Limits for log lines that would repeat: an outage is logged once, and a flood within a limit."""

import time
from collections.abc import Callable
from typing import Any

from structlog.stdlib import BoundLogger

MAX_REASONS = 10
"""Maximum number of different reasons that are logged for one outage."""


class OutageLog:
    """Logs an outage when it begins and when it ends, however many tasks notice it, and however often."""

    def __init__(self, log: BoundLogger, began: str, ended: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`began` and `ended` are the log lines; `clock` returns monotonic seconds."""
        self._log = log
        self._began = began
        self._ended = ended
        self._clock = clock
        self._since: float | None = None
        self._reasons: set[str] = set()
        self.reason = ""
        """The latest reason of the current outage; empty if there is no outage."""

    def notice(self, reason: str) -> None:
        """Log the start of an outage, or a further reason of it. Other repetitions are logged at level debug."""
        self.reason = reason
        if self._since is None:
            self._since = self._clock()
            self._reasons = {reason}
            self._log.warning(self._began, error=reason)
        elif reason not in self._reasons and len(self._reasons) < MAX_REASONS:
            self._reasons.add(reason)
            self._log.info(f"{self._began}, for a further reason", error=reason)
        else:
            self._log.debug(self._began, error=reason)

    def end(self) -> None:
        """Log the end of the outage, if there is one."""
        if self._since is not None:
            self._log.info(self._ended, after_seconds=round(self._clock() - self._since, 1))
        self._since, self.reason = None, ""


class FloodLimit:
    """Limits how many log lines of each kind are written in an interval, and counts the others.

    It keeps a count for each kind, so there must be a bounded number of kinds.
    """

    def __init__(self, lines: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `lines` of a kind in `seconds`; `clock` returns monotonic seconds."""
        self._lines = lines
        self._seconds = seconds
        self._clock = clock
        self._written: dict[Any, tuple[float, int]] = {}
        self._suppressed: dict[Any, int] = {}

    def admit(self, kind: Any) -> int | None:
        """Return how many lines of a kind were suppressed since the last one, or None if this one is to be too."""
        now = self._clock()
        began, written = self._written.get(kind, (now, 0))
        if now - began >= self._seconds:
            began, written = now, 0
        if written >= self._lines:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._written[kind] = began, written + 1
        return self._suppressed.pop(kind, 0)
