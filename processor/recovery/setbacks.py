"""What GitHub does not manage to answer must not hold up the rest, nor be asked for ever while GitHub is away."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import GitHubUnavailable

IN_A_ROW = 3
"""Setbacks after which it is not the one thing that was asked for, but GitHub."""


class Setbacks:
    """Remembers that GitHub was unavailable, thing by thing."""

    def __init__(self) -> None:
        """None so far."""
        self._in_a_row = 0
        self._last: GitHubUnavailable | None = None

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Let one thing fail because GitHub is unavailable, but not the third in a row."""
        try:
            yield
        except GitHubUnavailable as error:
            self._last = error
            self._in_a_row += 1
            if self._in_a_row >= IN_A_ROW:
                raise
        else:
            self._in_a_row = 0

    def raise_last(self) -> None:
        """Raise the last setback if there was any: what it was about is still to be done."""
        if self._last is not None:
            raise self._last
