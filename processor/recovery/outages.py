"""Tolerance for single failures, so that one request or one answer does not stop a recovery."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import GitHubUnavailable, PromgithubError, StoreRefused, describe
from shared.logs import get_logger

IN_A_ROW = 3
"""Failures in a row after which GitHub itself is considered unavailable."""

_log = get_logger(__name__)


class OutageTolerance:
    """Counts failures in a row, and stores the last one."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: GitHubUnavailable | None = None

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Suppress `GitHubUnavailable`, except the third in a row."""
        try:
            yield
        except GitHubUnavailable as error:
            self._last = error
            self._in_a_row += 1
            if self._in_a_row >= IN_A_ROW:
                raise
        else:
            self._in_a_row = 0

    @contextmanager
    def isolated(self, **item: object) -> Iterator[None]:
        """Suppress, and log with `item`, an error that its data cause: `StoreRefused`, or none of `shared.errors`."""
        try:
            yield
        except Exception as error:
            if isinstance(error, PromgithubError) and not isinstance(error, StoreRefused):
                raise
            _log.error("cannot be recovered now; the others are", **item, error=describe(error))
            names = ", ".join(f"{name} {value}" for name, value in item.items())
            self._last = GitHubUnavailable(f"{names}: cannot be recovered now ({describe(error)})")

    def raise_last(self) -> None:
        """Raise the last suppressed error, if any, because the work of that request is not done."""
        if self._last is not None:
            raise self._last
