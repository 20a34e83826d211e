"""Adds to the sums by hour, in the transaction of a batch, and reads those of a window.

Every statement locks its rows in key order, as those on series do.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ColumnElement, TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.fingerprints import Fingerprint, fingerprint
from processor.counting.hourly_sums import HOUR, STEPPED, HourlyLabels, HourlySum, Sum, Sums
from processor.store.arrays import Arrays
from processor.store.clock import BEGAN, database_now
from processor.store.engine import dialect_of
from processor.store.tables import hourly

_COLUMNS = ("key", *HourlyLabels._fields, "bound", "value")


async def add(connection: AsyncConnection, sums: Mapping[HourlySum, int]) -> None:
    """Add to the sums of the current hour."""
    if sums:
        arrays, statement = _add(dialect_of(connection))
        rows = sorted([_key(one), *one.labels, one.bound, by] for one, by in sums.items())
        await connection.execute(statement, arrays.bind(rows))


async def read(
    connection: AsyncConnection, hours: int, step: int, repository: str | None, runner_class: str | None
) -> Sums:
    """Return the sums of the last `hours`, and some in steps of so many hours, by the database's clock.

    The current hour is the last of them; later ones, which a wrong clock may have made, are left out. `repository` and
    `runner_class`, if given, choose what is summed; sums without a runner class are those of whole workflows, which a
    runner class does not choose.
    """
    columns = hourly.c
    now = int(await connection.scalar(select(database_now())) or 0)
    began = now - now % HOUR - (hours - 1) * HOUR
    length = step * HOUR
    chosen: list[ColumnElement[bool]] = [columns.hour.between(began, now)]
    if repository is not None:
        chosen.append(columns.repository == repository)
    if runner_class is not None:
        chosen.append(columns.runner_class.in_(("", runner_class)))
    summed = func.sum(columns.value)
    labels = [columns[name] for name in HourlyLabels._fields]
    # The key is shorter than the labels that it stands for.
    totals = select(columns.key, func.max(columns.hour).label("hour"), summed.label("total")).where(*chosen)
    of_key = totals.group_by(columns.key).subquery()
    of_labels = (hourly.c.hour == of_key.c.hour) & (hourly.c.key == of_key.c.key)
    whole = select(*labels, columns.bound, of_key.c.total).join_from(of_key, hourly, of_labels)
    by_labels = [Sum(HourlyLabels(*row[:-2]), row[-2], int(row[-1])) for row in await connection.execute(whole)]
    place = (columns.hour - began) // length
    kinds: list[ColumnElement[Any]] = [place, columns.metric, columns.conclusion, columns.bound]
    by_step: defaultdict[int, list[Sum]] = defaultdict(list)
    parts = select(*kinds, summed).where(*chosen, columns.metric.in_(STEPPED)).group_by(*kinds)
    rows: Iterable[Any] = await connection.execute(parts)
    for slot, metric, conclusion, bound, value in rows:
        by_step[began + slot * length].append(Sum(HourlyLabels(metric, "", "", "", conclusion), bound, int(value)))
    return Sums(began, now, by_labels, by_step)


@lru_cache(maxsize=65_536)
def _key(one: HourlySum) -> Fingerprint:
    return fingerprint("hourly", *one.labels, one.bound)


@cache
def _add(dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [hourly.c[name] for name in _COLUMNS])
    columns = ", ".join(_COLUMNS)
    hour = f"{BEGAN[dialect]} / {HOUR} * {HOUR}"
    return arrays, text(
        f"INSERT INTO hourly (hour, {columns}) SELECT {hour}, {columns} "  # noqa: S608 - our own names
        f"FROM {arrays.source('n')} WHERE true ORDER BY key "
        f"ON CONFLICT (hour, key) DO UPDATE SET value = hourly.value + excluded.value"
    )
