"""Finds stale rows, and rows whose pending increments can be settled."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.jobs import JOBS
from processor.counting.runs import RUNS
from processor.counting.states import Limit, StaleReason
from processor.counting.subjects import Subject
from processor.store.clock import database_now
from processor.store.tables import SUBJECT_TABLES, jobs, runs

DUE_CHUNK = 500
"""Maximum number of rows that are closed or settled in one transaction."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which due rows to find: all but those of the keys in `skip`, or the one with the key `only`."""

    skip: Collection[Any] = ()
    only: Any = None


ALL = Selection()


def later_attempt() -> ColumnElement[bool]:
    """Return the SQL condition that a later attempt of the run exists."""
    later = runs.alias("later")
    same = and_(later.c.host == runs.c.host, later.c.run_id == runs.c.run_id, later.c.attempt > runs.c.attempt)
    return select(later.c.run_id).where(same).exists()


def _run_ended(grace: int) -> ColumnElement[bool]:
    same = and_(runs.c.host == jobs.c.host, runs.c.run_id == jobs.c.run_id, runs.c.attempt == jobs.c.attempt)
    return select(runs.c.run_id).where(same, runs.c.closed_at < database_now() - grace).exists()


def _has_open_job() -> ColumnElement[bool]:
    """Return the SQL condition that a job of the attempt is open (index: jobs_open_run)."""
    same = and_(jobs.c.host == runs.c.host, jobs.c.run_id == runs.c.run_id, jobs.c.attempt == runs.c.attempt)
    return select(jobs.c.job_id).where(same, jobs.c.phase.is_not(None)).exists()


def _exceeded(subject: Subject[Any, Any], limit: Limit) -> ColumnElement[bool]:
    columns = SUBJECT_TABLES[subject.name].c
    exceeded = and_(columns.phase == limit.phase.value, columns.since < database_now() - limit.milliseconds)
    return and_(exceeded, ~_has_open_job()) if limit.without_jobs else exceeded


def _reason(subject: Subject[Any, Any], grace: int) -> ColumnElement[str | None]:
    """Return the SQL expression of the reason for closing an open row, or null if it is not stale."""
    reasons = [(_exceeded(subject, limit), limit.reason.value) for limit in subject.limits]
    if subject is RUNS:
        reasons.insert(0, (later_attempt(), StaleReason.SUPERSEDED.value))
    if subject is JOBS:
        reasons.insert(0, (_run_ended(grace), StaleReason.RUN_COMPLETED.value))
    return case(*reasons)


async def find_stale(
    connection: AsyncConnection, subject: Subject[Any, Any], grace: int, selection: Selection = ALL
) -> Sequence[tuple[Any, StaleReason]]:
    """Lock at most `DUE_CHUNK` stale rows without a delivery for `grace` ms; return their keys and the reasons.

    Rows that a batch has locked are skipped until the next time (index: <table>_open).
    """
    table = SUBJECT_TABLES[subject.name]
    columns = table.c
    reason = _reason(subject, grace)
    keys = [columns[name] for name in subject.key.__annotations__]
    statement = (
        select(*keys, reason)
        .where(columns.phase.is_not(None), columns.touched_at < database_now() - grace, reason.is_not(None))
        .where(*_selected(keys, selection))
        .limit(DUE_CHUNK)
        .with_for_update(of=table, skip_locked=True)
    )
    return [(subject.key(*key), StaleReason(found)) for *key, found in await connection.execute(statement)]


async def find_unsettled(
    connection: AsyncConnection, subject: Subject[Any, Any], grace: int, selection: Selection = ALL
) -> Sequence[Any]:
    """Lock at most `DUE_CHUNK` rows with pending increments and without a delivery for `grace` ms; return their keys.

    Rows that a batch has locked are skipped until the next time (index: <table>_unsettled).
    """
    table = SUBJECT_TABLES[subject.name]
    keys = [table.c[name] for name in subject.key.__annotations__]
    statement = (
        select(*keys)
        .where(table.c.unsettled.is_not(None), table.c.touched_at < database_now() - grace)
        .where(*_selected(keys, selection))
        .limit(DUE_CHUNK)
        .with_for_update(of=table, skip_locked=True)
    )
    return [subject.key(*key) for key in await connection.execute(statement)]


def _selected(keys: Sequence[ColumnElement[Any]], selection: Selection) -> list[ColumnElement[bool]]:
    if selection.only is not None:
        return [column == value for column, value in zip(keys, selection.only, strict=True)]
    return [tuple_(*keys).not_in(sorted(selection.skip))] if selection.skip else []
