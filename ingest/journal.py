"""What the log says about deliveries: each kind of refusal once a second, since anyone can cause any number of them."""

import logging
import time
from collections.abc import Callable, Mapping

from ingest.answers import Outcome, Refusal
from shared.delivery import parse_guid
from shared.logs import get_logger

INTERVAL_SECONDS = 1.0
"""Seconds between two warnings about refusals with the same outcome; those between are logged at level debug."""

_log = get_logger(__name__)
_stdlib = logging.getLogger(__name__)


class Journal:
    """Logs what became of requests, with `delivery_id` where they have one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._quiet_until: dict[Outcome, float] = {}
        self._left_out: dict[Outcome, int] = {}

    def taken(self, delivery_id: str, event: str, how: Outcome) -> None:
        """Log a delivery that is durable: accepted or spooled."""
        if _stdlib.isEnabledFor(logging.DEBUG):  # a line that is not written would still cost 10 µs
            _log.debug(how.value, delivery_id=delivery_id, event_type=event)

    def refused(self, refusal: Refusal, headers: Mapping[str, str]) -> None:
        """Log a refusal of the request with these headers, with the number of those left out since the last one."""
        now, outcome = self._clock(), refusal.outcome
        details = _named(headers) | {"status": refusal.status, "outcome": outcome.value, "reason": refusal.error}
        if now < self._quiet_until.get(outcome, now):
            self._left_out[outcome] = self._left_out.get(outcome, 0) + 1
            _log.debug("refused", **details)
            return
        self._quiet_until[outcome] = now + INTERVAL_SECONDS
        _log.warning("refused", **details, left_out=self._left_out.pop(outcome, 0))

    def failed(self, headers: Mapping[str, str]) -> None:
        """Log the exception that is being handled, which is a fault of ours."""
        _log.exception("a request could not be handled", **_named(headers))


def _named(headers: Mapping[str, str]) -> dict[str, object]:
    """Return the delivery ID in headers as a detail of a line, or none: anything may be in there."""
    guid = parse_guid(headers.get("X-GitHub-Delivery", ""))
    return {"delivery_id": str(guid)} if guid else {}
