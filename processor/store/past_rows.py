"""The rows of backfills: what they counted, and how far they are."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache

import msgspec
from sqlalchemy import TextClause, Update, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.past import Changes, Past
from processor.store.arrays import Arrays, hexadecimal
from processor.store.clock import database_now
from processor.store.engine import dialect_of
from processor.store.series_rows import stored_series
from processor.store.tables import backfills, past

PAST_CHUNK = 1000
"""Number of rows that are read at once."""

_COLUMNS = ("began_at", "key", "metric", "labels", "step", "bound", "value")


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill: when it began (Unix ms), from when on it reads runs (Unix ms), and how far it is.

    `progress` has the creation time (Unix s) of the newest run that has been read, by repository.
    """

    began_at: int
    since: int
    progress: Mapping[str, int]


async def unfinished(connection: AsyncConnection) -> Backfill | None:
    """Return the backfill whose file is not complete, or None."""
    statement = select(backfills).where(backfills.c.written_at.is_(None)).order_by(backfills.c.began_at).limit(1)
    row = (await connection.execute(statement)).first()
    if row is None:
        return None
    return Backfill(row.began_at, row.since, msgspec.json.decode(row.progress, type=dict[str, int]))


async def begin(connection: AsyncConnection, began_at: int, since: int) -> Backfill:
    """Store a new backfill; times are in Unix ms."""
    await connection.execute(insert(backfills).values(began_at=began_at, since=since, progress="{}"))
    return Backfill(began_at, since, {})


async def save_progress(connection: AsyncConnection, backfill: Backfill) -> None:
    """Store how far a backfill is."""
    progress = msgspec.json.encode(backfill.progress).decode()
    await connection.execute(_of(backfill).values(progress=progress))


async def finish(connection: AsyncConnection, backfill: Backfill) -> None:
    """Store that the file of a backfill is complete."""
    await connection.execute(_of(backfill).values(written_at=database_now()))


async def add(connection: AsyncConnection, began_at: int, counted: Past) -> None:
    """Add what a backfill counted; `began_at` identifies it."""
    if counted:
        arrays, statement = _add(dialect_of(connection))
        rows = sorted(
            [began_at, *stored_series(one.series), one.step, one.bound, value] for one, value in counted.items()
        )
        await connection.execute(statement, arrays.bind(rows))


async def newest_step(connection: AsyncConnection, backfill: Backfill) -> int:
    """Return the end of the last step in which a backfill counted something (Unix ms), or 0."""
    statement = select(func.max(past.c.step)).where(past.c.began_at == backfill.began_at)
    return await connection.scalar(statement) or 0


async def read(connection: AsyncConnection, backfill: Backfill, metric: str) -> AsyncIterator[tuple[str, Changes]]:
    """Yield the labels (JSON) and the changes of each series of a metric, one at a time (index: the primary key)."""
    columns = past.c
    statement = (
        select(columns.key, columns.labels, columns.step, columns.bound, columns.value)
        .where(columns.began_at == backfill.began_at, columns.metric == metric)
        .order_by(columns.key, columns.step, columns.bound)
        .execution_options(yield_per=PAST_CHUNK)
    )
    series, changes = ("", ""), defaultdict[int, dict[int, int]](dict)
    async with connection.stream(statement) as rows:
        async for key, labels, step, bound, value in rows:
            if series != (hexadecimal(key), labels):
                if changes:
                    yield series[1], changes
                series, changes = (hexadecimal(key), labels), defaultdict(dict)
            changes[step][bound] = value
    if changes:
        yield series[1], changes


def _of(backfill: Backfill) -> Update:
    return update(backfills).where(backfills.c.began_at == backfill.began_at)


@cache
def _add(dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [past.c[name] for name in _COLUMNS])
    columns = ", ".join(_COLUMNS)
    return arrays, text(
        f"INSERT INTO past ({columns}) SELECT {columns} "  # noqa: S608 - our own names
        f"FROM {arrays.source('n')} WHERE true ORDER BY key, step, bound "
        f"ON CONFLICT (began_at, metric, key, step, bound) DO UPDATE SET value = past.value + excluded.value"
    )
