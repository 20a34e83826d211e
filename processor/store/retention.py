"""Deletes old rows, by the clock of the database, in chunks that hold locks only for a short time.

`rules` has the retention period of each table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, delete, func, literal, not_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.store.clock import database_now
from processor.store.tables import (
    SUBJECT_TABLES,
    backfills,
    counters,
    deliveries,
    gauge_labels,
    histograms,
    hourly,
    past,
)

DELETE_CHUNK = 5000
"""Maximum number of rows that are deleted in one transaction. A chunk takes about 25 ms."""

LARGE = 1000
"""Number of rows from which on a table is checked before its rows are deleted; see `empties`."""

HOURLY_KEPT = timedelta(days=8)
"""How long the sums by hour are kept. The longest window that is shown has a week."""

CLOSED_KEPT = timedelta(days=40)
"""How long closed rows and executions are kept after the last delivery. GitHub allows re-runs for 30 days."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule to delete the rows of a table whose time in `since` (Unix ms) is longer ago than `kept`.

    If `only` is given, rows that do not meet this condition are never deleted.
    """

    since: Column[Any]
    kept: timedelta
    only: ColumnElement[bool] | None = None

    @property
    def table(self) -> str:
        """The name of the table."""
        return str(self.since.table.name)


def rules(delivery_ttl: timedelta, series_ttl: timedelta) -> Iterator[Rule]:
    """Yield the rules. This is the only place that pairs a table with a period."""
    yield Rule(deliveries.c.claimed_at, delivery_ttl)
    for table in SUBJECT_TABLES.values():
        yield Rule(table.c.touched_at, CLOSED_KEPT, table.c.closed_at.is_not(None) if "closed_at" in table.c else None)
    yield Rule(hourly.c.hour, HOURLY_KEPT)
    for table in (past, backfills):
        yield Rule(table.c.began_at, CLOSED_KEPT)
    for table in (counters, histograms, gauge_labels):
        yield Rule(table.c.touched_at, series_ttl)


async def empties(connection: AsyncConnection, rule: Rule) -> bool:
    """Return whether a rule deletes more than half of a table with at least `LARGE` rows, which a wrong clock causes.

    Reads at most as many rows that stay as there are expired ones, so it takes about as long as the deletion.
    """
    table = rule.since.table
    expired = _expired(rule)
    old = await connection.scalar(select(func.count()).select_from(table).where(expired)) or 0
    staying = select(literal(1)).select_from(table).where(not_(expired)).limit(old)
    kept = await connection.scalar(select(func.count()).select_from(staying.subquery())) or 0
    return kept < old and kept + old >= LARGE


async def delete_older(connection: AsyncConnection, rule: Rule) -> int:
    """Delete at most `DELETE_CHUNK` rows by a rule. Returns their number; a smaller number means that none is left."""
    table = rule.since.table
    condition = _expired(rule)
    key = tuple_(*table.primary_key.columns)
    chunk = select(*table.primary_key.columns).where(condition).limit(DELETE_CHUNK)
    # The condition is repeated outside of the subquery, so that a row that is touched meanwhile stays.
    result = await connection.execute(delete(table).where(key.in_(chunk), condition))
    return result.rowcount


def _expired(rule: Rule) -> ColumnElement[bool]:
    old = rule.since < database_now() - int(rule.kept.total_seconds() * 1000)
    return old if rule.only is None else old & rule.only
