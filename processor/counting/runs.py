"""The subject of workflow run attempts: their state and their increments. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import msgspec

from processor.counting.catalogue import (
    ANOMALIES,
    WORKFLOW_DURATION,
    WORKFLOW_IN_PROGRESS,
    WORKFLOW_OLDEST_AGE,
    WORKFLOW_QUEUED,
    WORKFLOW_RERUNS,
    WORKFLOW_STATUS,
    WORKFLOW_WAITING,
    KindLabels,
    WorkflowConclusionLabels,
    WorkflowLabels,
    WorkflowRerunLabels,
    WorkflowStatusLabels,
)
from processor.counting.ci_metrics import Tally
from processor.counting.descriptions import RunDescription
from processor.counting.flags import Flag
from processor.counting.names_and_conflicts import count_conflicts, workflow_labels
from processor.counting.states import (
    RUN_LIMITS,
    Names,
    Phase,
    Rank,
    Seen,
    Standing,
    conclusion_conflict,
    conflicts,
    join_names,
    least,
    phase_of,
    rank,
    union,
    waits,
)
from processor.counting.subjects import Gauges, Observed, Row, Rows, Subject


class RunKey(NamedTuple):
    """The key of a run attempt."""

    host: str
    run_id: int
    attempt: int


class RunEnd(NamedTuple):
    """A report that an attempt has completed. Of several, the minimum is kept: the most complete, then the earliest.

    Times are Unix ms.
    """

    unconcluded: bool
    unmeasured: bool
    at: int
    emitted: int
    conclusion: str
    began: int | None
    ended: int | None


class Run(msgspec.Struct, frozen=True, array_like=True):
    """The state of a run attempt. `began` is when it was triggered (Unix ms).

    `fork` is True if its head branch belongs to a fork. `event` triggered it; it is empty unless LABELS has it.
    """

    standing: Standing
    names: Names
    seen: Seen
    description: RunDescription
    began: int | None = None
    end: RunEnd | None = None
    conflicts: int = 0
    stale: str = ""
    fork: bool = False
    event: str = ""


class PendingRun(IntEnum):
    """The pending increments that a run attempt may have."""

    NEGATIVE_DURATION = 1


class Runs(Subject[RunKey, Run]):
    """Attempts of workflow runs."""

    name = "run"
    key = RunKey
    known = Run
    gauges = Gauges(
        "promgithub_workflow",
        {
            Phase.QUEUED: WORKFLOW_QUEUED,
            Phase.WAITING: WORKFLOW_WAITING,
            Phase.IN_PROGRESS: WORKFLOW_IN_PROGRESS,
        },
        WORKFLOW_OLDEST_AGE,
    )
    limits = RUN_LIMITS
    pending_kinds: ClassVar = {PendingRun.NEGATIVE_DURATION: "negative_run_duration"}
    link_columns: ClassVar = {"fork": bool}

    def join(self, known: Run, told: Run) -> Run:
        """Return the state after a fact."""
        standing = max(known.standing, told.standing)
        found = known.conflicts | told.conflicts | conflicts(known.names, told.names)
        if known.end and told.end:
            found |= conclusion_conflict(known.end.conclusion, told.end.conclusion)
        return Run(
            standing=standing,
            names=join_names(known.names, told.names),
            seen=union(known.seen, told.seen),
            began=least(known.began, told.began),
            end=least(known.end, told.end),
            conflicts=found,
            stale=known.stale if standing == known.standing else told.stale,
            fork=known.fork or told.fork,
            event=max(known.event, told.event),
            description=max(known.description, told.description),
        )

    def relate(self, key: RunKey, row: Row[Run], rows: Rows) -> None:
        """Tell the jobs of a run that it comes from a fork."""
        if row.known is not None and row.known.fork:
            rows.forks.add((key.host, key.run_id))

    def count(self, key: RunKey, row: Row[Run], told: Sequence[Run], rows: Rows, tally: Tally) -> None:
        """Add the new increments of an attempt."""
        run = row.known
        if run is None:
            return
        names = self.labels(run)
        seen = row.loaded.seen if row.loaded else ()
        for status in run.seen:
            if row.first_seen(seen, status):
                WORKFLOW_STATUS.inc(tally, WorkflowStatusLabels(*names, *status, run.event))
        if key.attempt > 1 and row.first(Flag.RERUN):
            WORKFLOW_RERUNS.inc(tally, WorkflowRerunLabels(*names, run.event))
        if run.end is not None:
            if row.first(Flag.END):
                WORKFLOW_STATUS.inc(tally, WorkflowStatusLabels(*names, "completed", run.end.conclusion, run.event))
            # A report that gives a duration counts, even if the kept one contradicts it.
            for end in (*(one.end for one in told if one.end), run.end):
                duration = _duration(end, run.began)
                if duration is not None and duration >= 0 and row.first(Flag.DURATION):
                    WORKFLOW_DURATION.observe(tally, _duration_labels(run, end), milliseconds=duration)
        count_conflicts(row, run.conflicts, tally)

    def unsettled(self, row: Row[Run]) -> int:
        """Return the pending increments."""
        end = None if row.known is None else row.known.end
        duration = None if row.known is None or end is None else _duration(end, row.known.began)
        if duration is None or duration >= 0 or row.flags & (Flag.DURATION | Flag.SETTLED_NEGATIVE_DURATION):
            return 0
        return PendingRun.NEGATIVE_DURATION

    def settle(self, key: RunKey, row: Row[Run], rows: Rows, tally: Tally) -> None:
        """Add the pending increments."""
        if self.unsettled(row) and row.first(Flag.SETTLED_NEGATIVE_DURATION):
            ANOMALIES.inc(tally, KindLabels("negative_run_duration"))

    def repository(self, known: Run) -> str:
        """Return the newest name of the repository."""
        return known.names.repository.value

    def links(self, known: Run) -> Mapping[str, Any]:
        """Return whether the run comes from a fork. The column is null unless it does."""
        return {"fork": known.fork or None}

    def phase(self, known: Run) -> Phase | None:
        """Return the gauge that an attempt counts in."""
        return phase_of(known.standing, known.stale)

    def since(self, known: Run) -> int | None:
        """Return when the attempt was triggered, or, if it waited and is queued now, when that was reported."""
        waited = any(waits(status) for status, conclusion in known.seen if rank(status, conclusion) is Rank.PENDING)
        if waited and self.phase(known) is Phase.QUEUED and known.standing.at:
            return known.standing.at
        return known.began

    def labels(self, known: Run) -> WorkflowLabels:
        """Return the newest names."""
        return workflow_labels(known.names)

    def ended(self, known: Run) -> int | None:
        """Return when the attempt ended, or None if that is unknown."""
        return known.end.ended if known.end else None

    def observed(self, row: Row[Run]) -> Iterable[Observed]:
        """Yield the duration, if it was counted."""
        run = row.known
        if run is None or run.end is None or run.conflicts or not row.has(Flag.DURATION):
            return
        duration = _duration(run.end, run.began)
        if duration is not None and duration >= 0:
            yield Observed(WORKFLOW_DURATION, _duration_labels(run, run.end), duration)


RUNS = Runs()
"""Attempts of workflow runs."""


def _duration_labels(run: Run, end: RunEnd) -> WorkflowConclusionLabels:
    return WorkflowConclusionLabels(*workflow_labels(run.names), end.conclusion, run.event)


def _duration(end: RunEnd, began: int | None) -> int | None:
    """Return the duration (ms) in a report, or None; `began` is the start if the report lacks it."""
    began = began if end.began is None else end.began
    return None if began is None or end.ended is None else end.ended - began
