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
from processor.counting.hourly_sums import HOUR, HourlyLabels, HourlySum, Sum, Sums
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
    """Return the sums of the last `hours`, and those in steps of so many hours, by the database's clock.

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
    labels: list[ColumnElement[Any]] = [columns[name] for name in HourlyLabels._fields]
    whole = select(*labels, columns.bound, summed).where(*chosen).group_by(*labels, columns.bound)
    by_labels = [Sum(HourlyLabels(*row[:-2]), row[-2], int(row[-1])) for row in await connection.execute(whole)]
    place = (columns.hour - began) // length
    kinds: list[ColumnElement[Any]] = [place, columns.metric, columns.conclusion, columns.bound]
    by_step: defaultdict[int, list[Sum]] = defaultdict(list)
    parts = select(*kinds, summed).where(*chosen).group_by(*kinds)
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
