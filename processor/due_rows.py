"""Processes due rows in chunks, and skips the rows that cannot be processed, so that the others go on."""

import time
from collections.abc import Awaitable, Callable, MutableSequence
from typing import Any, TypeAlias

from processor.counting.all_subjects import SUBJECTS
from processor.counting.subjects import Subject
from processor.metrics import WorkerMetrics
from processor.store.due import Selection
from processor.store.lease import Lease
from shared.errors import StoreError, StoreUnavailable, describe
from shared.logs import get_logger

SKIP_SECONDS = 600.0
"""How long a row that failed is skipped, in seconds."""

MOST_SKIPPED = 1000
"""Maximum number of rows that a chore skips; further failures are failures of the chore."""

Found: TypeAlias = MutableSequence[Any]
"""The keys of the rows that a transaction processes. It is empty until they have been found."""

Process: TypeAlias = Callable[[Subject[Any, Any], Selection, Found], Awaitable[None]]
"""Finds a chunk of due rows, adds their keys to the last argument, and processes them, in one transaction."""

TRACKED = [subject for subject in SUBJECTS if subject.gauges is not None]
"""The subjects whose rows can become due."""

_log = get_logger(__name__)


class DueRows:
    """One chore on due rows."""

    def __init__(
        self,
        chore: str,
        process: Process,
        lease: Lease,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns monotonic seconds."""
        self._chore = chore
        self._process = process
        self._lease = lease
        self._metrics = metrics
        self._clock = clock
        self._skipped: dict[tuple[Subject[Any, Any], Any], float] = {}

    async def run(self) -> int:
        """Process all due rows while the lease is held; return their number, without those that failed.

        A row that fails is logged, counted, and skipped for `SKIP_SECONDS`. Raises `StoreError`.
        """
        done = 0
        for subject in TRACKED:
            while self._lease.held:
                found, processed = await self._chunk(subject)
                done += processed
                if not found:
                    break
        return done

    async def _chunk(self, subject: Subject[Any, Any]) -> tuple[int, int]:
        """Return how many rows were found, and how many of them were processed."""
        found: list[Any] = []
        try:
            await self._process(subject, Selection(skip=self._skip(subject)), found)
        except StoreUnavailable:
            raise
        except Exception:
            if not found:
                raise
            return len(found), sum([await self._alone(subject, key) for key in found if self._lease.held])
        return len(found), len(found)

    async def _alone(self, subject: Subject[Any, Any], key: Any) -> int:
        """Process a row in a transaction of its own; return 1, or 0 if that failed or the row is no longer due."""
        found: list[Any] = []
        try:
            await self._process(subject, Selection(only=key), found)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one row must not stop the chore for the others
            self._failed(subject, key, error)
            return 0
        return len(found)

    def _failed(self, subject: Subject[Any, Any], key: Any, error: Exception) -> None:
        if len(self._skipped) >= MOST_SKIPPED:
            raise StoreError(f"over {MOST_SKIPPED} rows cannot be processed; the log names them") from error
        self._skipped[subject, key] = self._clock() + SKIP_SECONDS
        self._metrics.chore_failures.labels(self._chore).inc()
        _log.error(
            "a row cannot be processed and is skipped",
            chore=self._chore,
            subject=subject.name,
            key=tuple(map(str, key)),
            error=describe(error),
        )

    def _skip(self, subject: Subject[Any, Any]) -> list[Any]:
        now = self._clock()
        self._skipped = {row: until for row, until in self._skipped.items() if until > now}
        return [key for of, key in self._skipped if of is subject]
