"""Counts the finished work of a backfill: by step of time, for a file, and not for the series of the store. Pure.

The functions that count deliveries count it, over the same rows and flags. Therefore each increment is counted once:
here, or with a delivery. docs/decisions/0016 explains the design.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from processor.counting.all_subjects import SUBJECTS
from processor.counting.catalogue import STORED_BOUNDS
from processor.counting.ci_metrics import Series, Tally
from processor.counting.flags import Flag
from processor.counting.fold import fold, news_of, settle
from processor.counting.hourly_sums import INFINITE, NO_BOUND
from processor.counting.runs import RUNS
from processor.counting.subjects import Fact, Row, Rows

STEP = 300_000
"""The steps of time, in milliseconds. An increment is visible at the end of its step."""

SUM = -2
"""The bound of the sum of a histogram's observations."""


class PastIncrement(NamedTuple):
    """The place of an increment: its series, the end of its step (Unix ms), and its part of the series.

    `bound` is the stored bound of a histogram's bucket (ms), `INFINITE`, `SUM`, or `NO_BOUND` for a counter.
    """

    series: Series
    step: int
    bound: int


Past = Mapping[PastIncrement, int]
"""Increments in stored units. Those of buckets are not cumulative."""


Changes = Mapping[int, Mapping[int, int]]
"""What a series grew by: by the end of the step (Unix ms), in order, and by `PastIncrement.bound`."""


class Span(NamedTuple):
    """The time in which increments may be, in Unix ms. Others are moved to its nearest end."""

    since: int
    until: int


def count_past(rows: Rows, facts: Sequence[Fact], span: Span) -> Past:
    """Join facts about finished work with the states in `rows`, which are changed in place; return the increments.

    Each increment has the time of its fact. What waits for `GRACE` when it comes as a delivery is counted at once,
    unless deliveries have told of the row: then more may come. `rows` is as `fold` needs it for all facts together.
    """
    past: Counter[PastIncrement] = Counter()
    flags = {(fact.subject.name, fact.key): _row(rows, fact).flags for fact in facts}
    # The jobs of a run are counted before its end, but under the branch that its end shows.
    rows.forks.update((fact.key[0], fact.key[1]) for fact in facts if fact.subject is RUNS and fact.told.fork)
    steps: dict[tuple[str, tuple[Any, ...]], int] = {}
    for step, group in groupby(sorted(facts, key=lambda fact: _step(fact, span)), lambda fact: _step(fact, span)):
        now = list(group)
        _add(past, step, fold(rows, news_of(now)))
        steps.update({(fact.subject.name, fact.key): step for fact in now})
    for subject in SUBJECTS:
        waiting = [(steps[subject.name, key], key) for key in rows.of(subject) if (subject.name, key) in steps]
        for step, key in sorted(waiting):
            row = rows.of(subject)[key]
            if row.loaded is None and subject.unsettled(row):
                _add(past, step, settle(subject, [key], rows))
    for fact in facts:
        row = _row(rows, fact)
        if row.flags != flags[fact.subject.name, fact.key]:
            row.flags |= Flag.BACKFILLED
    return past


def _row(rows: Rows, fact: Fact) -> Row[Any]:
    row: Row[Any] = rows.of(fact.subject)[fact.key]
    return row


def _step(fact: Fact, span: Span) -> int:
    """Return the end of the step of a fact: the first multiple of `STEP` at or after its time."""
    at: int = fact.told.standing.at
    return -(-min(max(at, span.since), span.until) // STEP) * STEP


def _add(past: Counter[PastIncrement], step: int, tally: Tally) -> None:
    for series, by in tally.counts.items():
        past[PastIncrement(series, step, NO_BOUND)] += by
    for (series, milliseconds), times in tally.observations.items():
        past[PastIncrement(series, step, _bound(milliseconds))] += times
        past[PastIncrement(series, step, SUM)] += milliseconds * times


def _bound(milliseconds: int) -> int:
    return next((bound for bound in STORED_BOUNDS if milliseconds <= bound), INFINITE)
