"""Supervises chores: recurring tasks of the processor that holds the lease. A failing chore never ends the process."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from processor.metrics import WorkerMetrics
from processor.store.lease import Lease
from shared.errors import BusyError, StoreUnavailable, describe
from shared.log_limits import OutageLog
from shared.logs import get_logger
from shared.waiting import is_set_within, pauses, unless

LEASE_INTERVAL = 1.0
"""How often a processor without the lease checks whether it has it now, in seconds."""

LONGEST_CHORE_PAUSE = 600.0
"""The pause after a failure doubles with each further failure, up to so many seconds, or the chore's own interval."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """A recurring task: its name (one of `metrics.CHORES`), its interval in seconds, and what it does.

    A chore that is done `once` ends after its first success; `interval` is then the first pause after a failure.
    """

    name: str
    interval: float
    run: Callable[[], Awaitable[object]]
    once: bool = False


class Supervisor:
    """Runs chores while the lease is held. Logs and counts each failure, waits, and runs the chore again."""

    def __init__(self, lease: Lease, metrics: WorkerMetrics, outage: OutageLog) -> None:
        """`outage` is the log of the outages of the database, which is one for all of its users."""
        self._outage = outage
        self._lease = lease
        self._metrics = metrics

    async def keep(self, chore: Chore, stop: asyncio.Event) -> None:
        """Run a chore at its interval until `stop` is set, which also ends a running one."""
        pause = 0.0
        backoff = None
        while not await is_set_within(stop, pause):
            if not self._lease.held:
                pause = LEASE_INTERVAL
            elif await unless(stop, self._succeeds(chore)):
                if chore.once:
                    return
                pause, backoff = chore.interval, None
            else:
                backoff = backoff or pauses(chore.interval, max(chore.interval, LONGEST_CHORE_PAUSE))
                pause = next(backoff)

    async def _succeeds(self, chore: Chore) -> bool:
        try:
            await chore.run()
        except BusyError as error:
            _log.info("another process does this chore", chore=chore.name, error=str(error))
        except Exception as error:  # noqa: BLE001 - no failure of a chore may end the counting
            self._metrics.chore_failures.labels(chore.name).inc()
            if isinstance(error, StoreUnavailable) and error.cause == "connection":
                self._outage.notice(str(error))
                return False
            _log.warning("chore failed, retrying later", chore=chore.name, error=describe(error))
            return False
        return True
