"""Finds the runs of forks among the runs of jobs, because the payload of a job does not say that it is from a fork.

A job and its run may be counted by two processors at the same time. Neither transaction sees the rows of the other.
Therefore gauges look at the run when they are read, and the row of a job is corrected when it is written next.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, TextClause, case, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.label_values import OTHER_BRANCH
from processor.store.arrays import Arrays
from processor.store.engine import dialect_of
from processor.store.tables import jobs, runs


@cache
def _find(dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [runs.c.host, runs.c.run_id])
    return arrays, text(
        f"SELECT DISTINCT r.host, r.run_id FROM {arrays.source('k')} "  # noqa: S608 - our own names
        f"JOIN runs AS r ON r.host = k.host AND r.run_id = k.run_id WHERE r.fork IS NOT NULL"
    )


async def find_forks(connection: AsyncConnection, wanted: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return which of these runs (host and run ID) come from a fork (index: runs_fork)."""
    if not wanted:
        return set()
    arrays, statement = _find(dialect_of(connection))
    found = await connection.execute(statement, arrays.bind(sorted(wanted)))
    return {(host, run_id) for host, run_id in found}


def open_branch() -> ColumnElement[Any]:
    """Return the SQL expression of the branch that an open job has in gauges (index: runs_fork)."""
    same = select(runs.c.run_id).where(runs.c.host == jobs.c.host, runs.c.run_id == jobs.c.run_id)
    return case((same.where(runs.c.fork.is_not(None)).exists(), OTHER_BRANCH), else_=jobs.c.branch)
