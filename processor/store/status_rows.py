"""Reads what is open, and what has failed, for people who look. Every statement uses an index and returns few rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, case, false, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.fingerprints import Fingerprint
from processor.counting.jobs import JOBS
from processor.counting.known_job import Job, JobKey
from processor.counting.runs import RUNS
from processor.counting.states import Phase
from processor.counting.subjects import Subject
from processor.store.clock import database_now
from processor.store.due import later_attempt
from processor.store.engine import dialect_of
from processor.store.subject_rows import subject_rows
from processor.store.tables import SUBJECT_TABLES, counters, jobs


@dataclass(frozen=True, slots=True)
class OpenFilter:
    """Which open runs and jobs to find; None means all. `since` is the latest start of their phase (Unix ms).

    A runner class finds no runs.
    """

    repository: str | None = None
    runner_class: str | None = None
    phase: Phase | None = None
    since: int | None = None


class Part(NamedTuple):
    """A part of a list: its order (a key of `_order`), the maximum number of rows, and how many come before it."""

    sort: str = "age"
    limit: int = 50
    offset: int = 0


class OpenCount(NamedTuple):
    """The number of open runs or jobs in a phase, and the start of the oldest one (Unix ms).

    `runner_class` is empty for runs.
    """

    runner_class: str
    phase: Phase
    number: int
    since: int


class OpenRow(NamedTuple):
    """An open run or job: its key, its state, its phase, the start of the phase (Unix ms), and its runner class."""

    key: Any
    known: Any
    phase: Phase
    since: int
    runner_class: str


class FailedRow(NamedTuple):
    """A failed job: its key, its state, when it failed (Unix ms), and the key of its name."""

    key: JobKey
    known: Job
    finished_at: int
    name_key: Fingerprint


async def now(connection: AsyncConnection) -> int:
    """Return the database's time in Unix ms."""
    return int(await connection.scalar(select(database_now())) or 0)


async def has_counters(connection: AsyncConnection) -> bool:
    """Return whether the store has a counter."""
    return await connection.scalar(select(counters.c.key).limit(1)) is not None


async def count_open(connection: AsyncConnection, subject: Subject[Any, Any], wanted: OpenFilter) -> list[OpenCount]:
    """Count open runs or jobs by runner class and phase (index: <table>_open)."""
    columns = SUBJECT_TABLES[subject.name].c
    by = [columns.runner_class, columns.phase] if subject is JOBS else [columns.phase]
    statement = _open(subject, select(*by, func.count(), func.min(columns.since)), wanted).group_by(*by)
    rows = await connection.execute(statement)
    return [OpenCount(row[0] if subject is JOBS else "", Phase(row[-3]), row[-2], row[-1]) for row in rows]


async def find_open(
    connection: AsyncConnection, subject: Subject[Any, Any], wanted: OpenFilter, part: Part
) -> list[OpenRow]:
    """Return a part of the open runs or jobs. By age, queued ones come before waiting and running ones.

    Rows whose state this release cannot read are left out.
    """
    columns = SUBJECT_TABLES[subject.name].c
    key = [columns[name] for name in subject.key.__annotations__]
    runner_class = [columns.runner_class] if subject is JOBS else []
    selected = select(*key, columns.state, columns.phase, columns.since, *runner_class)
    statement = _open(subject, selected, wanted).order_by(*_order(subject, part.sort), *key)
    read = subject_rows(subject, dialect_of(connection)).read
    rows: list[OpenRow] = []
    for row in await connection.execute(statement.limit(part.limit).offset(part.offset)):
        known = read(row[len(key)])
        if known is not None:
            phase, since, *classes = row[len(key) + 1 :]
            rows.append(OpenRow(subject.key(*row[: len(key)]), known, Phase(phase), since, *(classes or [""])))
    return rows


async def find_failed(connection: AsyncConnection, limit: int) -> list[FailedRow]:
    """Return the jobs that failed last, the newest first (index: jobs_failed)."""
    columns = jobs.c
    statement = (
        select(columns.host, columns.job_id, columns.state, columns.finished_at, columns.name_key)
        .where(columns.failed.is_(True))
        .order_by(columns.finished_at.desc())
        .limit(limit)
    )
    read = subject_rows(JOBS, dialect_of(connection)).read
    rows: list[FailedRow] = []
    for host, job_id, state, finished_at, name_key in await connection.execute(statement):
        known = read(state)
        if known is not None:
            rows.append(FailedRow(JobKey(host, job_id), known, finished_at, Fingerprint(name_key.hex)))
    return rows


async def count_in_a_row(connection: AsyncConnection, names: Iterable[Fingerprint]) -> Mapping[Fingerprint, int]:
    """Return how often jobs have failed since their last success, by the key of their name (index: jobs_name_key)."""
    keys = sorted(set(names))
    if not keys:
        return {}
    rows = await connection.execute(_in_a_row(), {"names": [UUID(hex=key) for key in keys]})
    return {Fingerprint(key.hex): count for key, count in rows}


@cache
def _in_a_row() -> Select[Any]:
    wanted = jobs.c.name_key.in_(bindparam("names", expanding=True))
    found = select(jobs.c.name_key).where(wanted).distinct().subquery()
    success, failure = jobs.alias("success"), jobs.alias("failure")
    succeeded = (
        select(func.max(success.c.finished_at))
        .where(success.c.name_key == found.c.name_key, success.c.failed.is_(False))
        .scalar_subquery()
    )
    last = select(found.c.name_key, func.coalesce(succeeded, 0).label("at")).subquery()
    later = failure.c.failed.is_(True) & (failure.c.finished_at > last.c.at)
    return (
        select(last.c.name_key, func.count(failure.c.finished_at.distinct()))
        .join_from(last, failure, (failure.c.name_key == last.c.name_key) & later)
        .group_by(last.c.name_key)
    )


def _open(subject: Subject[Any, Any], statement: Select[Any], wanted: OpenFilter) -> Select[Any]:
    columns = SUBJECT_TABLES[subject.name].c
    statement = statement.where(columns.phase.is_not(None))
    if subject is RUNS:
        statement = statement.where(~later_attempt())
    if wanted.repository is not None:
        statement = statement.where(columns.repository == wanted.repository)
    if wanted.phase is not None:
        statement = statement.where(columns.phase == wanted.phase.value)
    if wanted.since is not None:
        statement = statement.where(columns.since <= wanted.since)
    if wanted.runner_class is not None:
        statement = statement.where(columns.runner_class == wanted.runner_class if subject is JOBS else false())
    return statement


def _order(subject: Subject[Any, Any], sort: str) -> Sequence[ColumnElement[Any]]:
    columns = SUBJECT_TABLES[subject.name].c
    phases = case({phase.value: place for place, phase in enumerate(Phase)}, value=columns.phase)
    oldest = columns.since.asc()
    return {
        "age": [phases, oldest],
        "-age": [phases, columns.since.desc()],
        "repository": [columns.repository, phases, oldest],
        "workflow": [columns.workflow_name, phases, oldest],
        "runner_class": [columns.runner_class if subject is JOBS else columns.repository, phases, oldest],
    }[sort]
