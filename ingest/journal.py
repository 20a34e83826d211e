"""The log lines about requests. Each kind of refusal is logged once a second, because anyone can cause refusals."""

import ipaddress
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from ingest.outcomes import Refusal, RequestOutcome
from shared.delivery import parse_guid
from shared.log_limits import FloodLimit
from shared.logs import get_logger

INTERVAL_SECONDS = 1.0
"""Minimum time between two warnings about the same outcome, in seconds. The others are logged at level debug."""

_HOOK_ID = re.compile(r"[0-9]{1,19}", re.ASCII)

_log = get_logger(__name__)
_stdlib = logging.getLogger(__name__)


class Journal:
    """Logs the outcome of requests, with `delivery_id` if the request has one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        self._limit = FloodLimit(1, INTERVAL_SECONDS, clock)

    def taken(self, delivery_id: str, event: str, how: RequestOutcome) -> None:
        """Log that a delivery was accepted or spooled."""
        if _stdlib.isEnabledFor(logging.DEBUG):  # without this, a suppressed line costs 10 µs
            _log.debug(how.value, delivery_id=delivery_id, event_type=event)

    def pinged(self, headers: Mapping[str, str], address: str | None) -> None:
        """Log GitHub's `ping`, which it sends when a webhook is created, with the hook that sent it."""
        details = _named(headers) | {"address": address or "unknown"} | _claimed(headers)
        suppressed = self._limit.admit(RequestOutcome.PONG)
        if suppressed is None:
            _log.debug("ping", **details)
        else:
            _log.info("ping", **details, suppressed=suppressed)

    def refused(self, refusal: Refusal, headers: Mapping[str, str], address: str | None) -> None:
        """Log the refusal of a request from an address.

        The field `suppressed` says how many refusals with this outcome were not logged as a warning since the last one.
        """
        outcome = refusal.outcome
        suppressed = self._limit.admit(outcome)
        if suppressed is None and not _stdlib.isEnabledFor(logging.DEBUG):  # in an overload, this must cost little
            return
        details = _named(headers) | {"status": refusal.status, "outcome": outcome.value, "reason": refusal.error}
        details |= {"address": address or "unknown"} | _claimed(headers)
        if suppressed is None:
            _log.debug("refused", **details)
        else:
            _log.warning("refused", **details, suppressed=suppressed)

    def failed(self, headers: Mapping[str, str]) -> None:
        """Log the current exception, a bug in the receiver."""
        _log.exception("internal error while handling a request", **_named(headers))


def _named(headers: Mapping[str, str]) -> dict[str, object]:
    """Return the field `delivery_id` of a log line, if the header contains a GUID. Other values are not logged."""
    guid = parse_guid(headers.get("X-GitHub-Delivery", ""))
    return {"delivery_id": str(guid)} if guid else {}


def _claimed(headers: Mapping[str, str]) -> dict[str, object]:
    """Return what a request says about its sender, which nobody has verified. Other values are not logged.

    `forwarded_for` is the last address in `X-Forwarded-For`, which the nearest proxy has added.
    """
    claimed: dict[str, object] = {}
    with suppress(ValueError):
        last = headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        claimed["forwarded_for"] = str(ipaddress.ip_address(last.partition("%")[0]))
    if _HOOK_ID.fullmatch(hook_id := headers.get("X-GitHub-Hook-ID", "")):
        claimed["claimed_hook_id"] = hook_id
    return claimed
