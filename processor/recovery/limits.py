"""When GitHub's API may be asked, and how long to wait before asking again. Pure.

The rules: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
"""

import random
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

SECONDARY_PAUSE = 60.0
"""Seconds after a secondary limit that does not say how long; twice as long each time (GitHub docs, same page)."""

FIRST_PAUSE = 1.0
"""Seconds after the first failure of GitHub's own, or of the network; twice as long each time."""

POINTS = {"GET": 1, "POST": 5}
"""What a request costs of the secondary limit of 900 points a minute (same page)."""

BURST = 300.0
"""Points that may be spent at once."""

POINTS_A_SECOND = 9.0
"""Points that come back: with the burst, no minute has more than 840."""

WINDOW = 3600.0
"""Seconds after which a limit is reset at the latest (GitHub docs, "Rate limits")."""

BETWEEN_POSTS = 1.0
"""Seconds between requests that change something (GitHub docs, "Best practices")."""

_SERVER_ERRORS = frozenset([500, 502, 503, 504])


class Budget:
    """The hourly limit of one token, of which a share is ours.

    It is counted by what GitHub says is left, and what others use of the same token is taken for ours: so the share is
    never exceeded, however many processes there are and however often they begin anew.
    """

    def __init__(self, share: float) -> None:
        """`share` is above 0, up to 1."""
        self._share = share
        self.limit: int | None = None
        self.remaining: int | None = None
        self.heard_at = float("-inf")
        """When (Unix seconds) GitHub last told or was asked."""
        self._reset = 0.0

    def hear(self, headers: Mapping[str, str], now: float) -> None:
        """Take over what an answer at `now` (Unix seconds) says of the limit; Enterprise Server may say nothing."""
        reset = _seconds_to_reset(headers, now)
        limit, remaining = (_seconds(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining"))
        if limit is not None and remaining is not None and reset is not None:
            self.limit, self.remaining, self._reset = int(limit), int(remaining), now + reset
            self.heard_at = now

    def spend(self) -> None:
        """Count a request that is about to be made; its answer may never come."""
        if self.remaining is not None:
            self.remaining -= 1

    def wait(self, now: float) -> float:
        """Return the seconds until another request may be made; `now` is in Unix seconds."""
        if self.limit is None or self.remaining is None or now > self._reset:
            return 0.0
        others = self.limit - max(1, int(self.limit * self._share))
        return 0.0 if self.remaining > others else min(WINDOW, self._reset - now) + 1


class Pace:
    """Keeps requests below the secondary limits."""

    def __init__(self) -> None:
        """Nothing has been asked yet."""
        self._points = BURST
        self._at = 0.0
        self._posted_at = float("-inf")

    def wait(self, method: str, now: float) -> float:
        """Return the seconds until a request may be made, and count it as made then; `now` is in seconds."""
        self._points = min(BURST, self._points + max(0.0, now - self._at) * POINTS_A_SECOND) - POINTS[method]
        self._at = max(self._at, now)
        wait = max(0.0, -self._points / POINTS_A_SECOND)
        if method == "POST":
            wait = max(wait, min(BETWEEN_POSTS, self._posted_at + BETWEEN_POSTS - now))
            self._posted_at = now + wait
        return wait


def pause(status: int, headers: Mapping[str, str], message: str, attempt: int, now: float) -> float | None:
    """Return the seconds to wait before a request is made again, or None if that would not help.

    `status` is 0 if no answer came; `message` is what the answer says; `now` is in Unix seconds.
    """
    if status in {403, 429}:
        return _after_a_limit(status, headers, message, attempt, now)
    if status == 0 or status in _SERVER_ERRORS:
        asked = _seconds(headers.get("retry-after"))
        return asked if asked is not None else _growing(FIRST_PAUSE, attempt)
    return None


def _after_a_limit(status: int, headers: Mapping[str, str], message: str, attempt: int, now: float) -> float | None:
    asked = _seconds(headers.get("retry-after"))
    if asked is not None:
        return asked
    reset = _seconds_to_reset(headers, now)
    if headers.get("x-ratelimit-remaining") == "0" and reset is not None:
        return reset + 1
    if status == 429 or "rate limit" in message.lower() or "abuse" in message.lower():
        return _growing(SECONDARY_PAUSE, attempt)
    return None  # forbidden, and for good


def _seconds_to_reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until the limit is reset, by GitHub's own clock if the answer tells the time."""
    reset = _seconds(headers.get("x-ratelimit-reset"))
    if reset is None:
        return None
    with suppress(KeyError, ValueError):
        now = parsedate_to_datetime(headers["date"]).timestamp()
    return max(0.0, reset - now)


def _growing(first: float, attempt: int) -> float:
    return float(first * 2 ** (attempt - 1) * random.uniform(1, 1.2))  # noqa: S311 - no secret


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
