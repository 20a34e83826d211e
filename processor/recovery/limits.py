"""When a request may be sent to GitHub's API, and how long to wait before a retry. Pure.

The rules: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api.
"""

import math
import random
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

SECONDARY_PAUSE = 60.0
"""Pause after a secondary rate limit without `Retry-After`, in seconds. It doubles each time (same page)."""

FIRST_API_PAUSE = 1.0
"""Pause after the first server error or network error, in seconds. It doubles each time."""

POINTS = {"GET": 1, "POST": 5}
"""Points of a request, of the secondary rate limit of 900 points per minute (same page)."""

BURST = 300.0
"""Maximum number of points that may be spent at once."""

POINTS_A_SECOND = 9.0
"""Points that are added per second. Together with `BURST`, this allows at most 840 points per minute."""

WINDOW = 3600.0
"""Maximum time until a rate limit is reset, in seconds (GitHub docs, "Rate limits")."""

BETWEEN_POSTS = 1.0
"""Minimum time between requests that change something, in seconds (GitHub docs, "Best practices")."""

_SERVER_ERRORS = frozenset([500, 502, 503, 504])


class Budget:
    """The hourly rate limit of one token. promgithub may use a share of it.

    The budget is calculated from the remaining requests that GitHub reports. Requests of others with the same token
    count as promgithub's. The share is therefore not exceeded, even with several processes or after restarts.
    """

    def __init__(self, share: float) -> None:
        """`share` is greater than 0 and at most 1."""
        self._share = share
        self.limit: int | None = None
        self.remaining: int | None = None
        self.heard_at = float("-inf")
        """When (Unix seconds) GitHub last reported the limit, or was last asked for it."""
        self._reset = 0.0

    def hear(self, headers: Mapping[str, str], now: float) -> None:
        """Update the budget from the headers of an answer at `now` (Unix seconds).

        Enterprise Server may not send these headers.
        """
        reset = _seconds_to_reset(headers, now)
        limit, remaining = (_number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining"))
        if limit is not None and remaining is not None and reset is not None:
            self.limit, self.remaining, self._reset = int(limit), int(remaining), now + min(reset, WINDOW)
            self.heard_at = now

    def spend(self) -> None:
        """Count a request before it is sent, because its answer may never arrive."""
        if self.remaining is not None:
            self.remaining -= 1

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may be sent; `now` is in Unix seconds."""
        if self.limit is None or self.remaining is None or now > self._reset:
            return 0.0
        others = self.limit - max(1, int(self.limit * self._share))
        return 0.0 if self.remaining > others else min(WINDOW, self._reset - now) + 1


class Pace:
    """Keeps requests below the secondary limits."""

    def __init__(self) -> None:
        self._points = BURST
        self._at = 0.0
        self._posted_at = float("-inf")

    def wait(self, method: str, now: float) -> float:
        """Return the seconds until a request may be sent, and count it as sent then; `now` is in seconds."""
        self._points = min(BURST, self._points + max(0.0, now - self._at) * POINTS_A_SECOND) - POINTS[method]
        self._at = max(self._at, now)
        wait = max(0.0, -self._points / POINTS_A_SECOND)
        if method == "POST":
            wait = max(wait, min(BETWEEN_POSTS, self._posted_at + BETWEEN_POSTS - now))
            self._posted_at = now + wait
        return wait


def pause(status: int, headers: Mapping[str, str], message: str, attempt: int, now: float) -> float | None:
    """Return the seconds to wait before a request is retried, at most `WINDOW`, or None if a retry cannot succeed.

    `status` is 0 if there was no answer; `message` is the text of the answer; `now` is in Unix seconds.
    """
    asked = None
    if status in {403, 429}:
        asked = _after_a_limit(status, headers, message, attempt, now)
    elif status == 0 or status in _SERVER_ERRORS:
        asked = _number(headers.get("retry-after"))
        asked = _growing(FIRST_API_PAUSE, attempt) if asked is None else asked
    return None if asked is None else min(asked, WINDOW)


def _after_a_limit(status: int, headers: Mapping[str, str], message: str, attempt: int, now: float) -> float | None:
    asked = _number(headers.get("retry-after"))
    if asked is not None:
        return asked
    reset = _seconds_to_reset(headers, now)
    if headers.get("x-ratelimit-remaining") == "0" and reset is not None:
        return reset + 1
    if status == 429 or "rate limit" in message.lower() or "abuse" in message.lower():
        return _growing(SECONDARY_PAUSE, attempt)
    return None  # a missing permission


def _seconds_to_reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until the limit is reset, according to GitHub's clock if the answer has a `Date`."""
    reset = _number(headers.get("x-ratelimit-reset"))
    if reset is None:
        return None
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        now = parsedate_to_datetime(headers["date"]).timestamp()
    return max(0.0, reset - now)


def _growing(first: float, attempt: int) -> float:
    return float(first * 2 ** (attempt - 1) * random.uniform(1, 1.2))  # noqa: S311 - no secret


def _number(text: str | None) -> float | None:
    """Return a finite number in a header, 0 if it is negative, or None if there is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
