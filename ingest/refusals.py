"""Logging refusals: each kind at most once a second, since anyone can cause any number of them."""

import time
from collections.abc import Callable, Mapping

from ingest.answers import Outcome, Refusal
from shared.delivery import parse_guid
from shared.logs import get_logger

INTERVAL_SECONDS = 1.0
"""Seconds between two warnings about refusals with the same outcome; those between are logged at level debug."""

_log = get_logger(__name__)


class RefusalLog:
    """Logs why deliveries are refused."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._quiet_until: dict[Outcome, float] = {}
        self._left_out: dict[Outcome, int] = {}

    def add(self, refusal: Refusal, headers: Mapping[str, str]) -> None:
        """Log a refusal of the request with these headers, with the number of those left out since the last one."""
        now, outcome = self._clock(), refusal.outcome
        guid = parse_guid(headers.get("X-GitHub-Delivery", ""))
        details = {
            "delivery_id": str(guid) if guid else None,
            "status": refusal.status,
            "outcome": outcome.value,
            "reason": refusal.error,
        }
        if now < self._quiet_until.get(outcome, now):
            self._left_out[outcome] = self._left_out.get(outcome, 0) + 1
            _log.debug("refused", **details)
            return
        self._quiet_until[outcome] = now + INTERVAL_SECONDS
        _log.warning("refused", **details, left_out=self._left_out.pop(outcome, 0))
