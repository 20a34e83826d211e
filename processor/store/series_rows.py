"""Adds increments to series, and creates series up to MAX_SERIES per metric.

Every statement locks its rows in key order. New series are created under a lock, so that several processors together do
not exceed MAX_SERIES. Further increments go to the metric's overflow series.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import Table, TextClause, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.catalogue import STORED_BOUNDS
from processor.counting.ci_metrics import Series, Tally, labels_text, named_labels, series_key
from processor.counting.fingerprints import Fingerprint
from processor.counting.hourly_sums import hourly_sums
from processor.store import hourly_rows
from processor.store.arrays import Arrays, hexadecimal
from processor.store.clock import BEGAN
from processor.store.engine import dialect_of
from processor.store.recent import RecentRows
from processor.store.tables import BUCKET_COLUMNS, counters, gauge_labels, histograms, locks

SERIES_LOCK = "series"
"""The row of `locks` that is locked while series are created or merged."""

TOUCHED_EVERY = 3_600_000
"""How often `touched_at` of gauge labels in use is updated, in milliseconds."""

GaugeLabels: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""The prefix of the gauges' names, and labels by name."""

Admitted: TypeAlias = Mapping[Series, Series]
"""The series to write to, by wanted series: itself, or the overflow series if the metric is full."""


@lru_cache(maxsize=65_536)
def stored_series(series: Series) -> tuple[Fingerprint, str, str]:
    """Return the key, the metric and the labels (JSON) of a series in the store."""
    metric, values = series
    return _stored(metric.name, zip(metric.label_names, values, strict=True))


@lru_cache(maxsize=65_536)
def gauge_row(stem: str, labels: tuple[tuple[str, str], ...]) -> tuple[Fingerprint, str, str]:
    """Return the key, the prefix of the gauges' names and the labels (JSON) of gauge labels in the store."""
    return _stored(stem, labels)


def _stored(name: str, labels: Iterable[tuple[str, str]]) -> tuple[Fingerprint, str, str]:
    named = named_labels(labels)
    return series_key(name, named), name, labels_text(named)


async def add(
    connection: AsyncConnection, tally: Tally, max_series: int, recent: RecentRows, *, hold: bool
) -> Counter[str]:
    """Add a tally to the series and to the sums by hour; missing series are created, and held if `hold` is True.

    Returns, by metric, how many series of the tally went to the overflow series. Series in `recent` are known to exist.
    """
    # Both calls of `_admit` must come before any row is locked: they may wait for the series lock.
    counted = await _admit(connection, counters, tally.counts, max_series, recent)
    observed = await _admit(connection, histograms, {series for series, _ in tally.observations}, max_series, recent)
    sums: Counter[Series] = Counter()
    for series, by in tally.counts.items():
        sums[counted[series]] += by
    await upsert(connection, counters, {series: [by] for series, by in sums.items()}, hold=hold)
    rows: dict[Series, list[int]] = defaultdict(lambda: [0] * (1 + len(BUCKET_COLUMNS)))
    for (series, milliseconds), times in tally.observations.items():
        row = rows[observed[series]]
        row[0] += milliseconds * times
        row[1 + _bucket(milliseconds)] += times
    await upsert(connection, histograms, rows, hold=hold)
    await hourly_rows.add(connection, hourly_sums(sums, {series: row[1:] for series, row in rows.items()}))
    return _overflows([*counted.items(), *observed.items()])


async def upsert(
    connection: AsyncConnection, table: Table, grown: Mapping[Series, Sequence[int]], *, hold: bool
) -> None:
    """Add amounts, in the order of the table's value columns, to series; create the missing ones, held or not."""
    if grown:
        arrays, statement = _upsert(table, dialect_of(connection), hold)
        rows = sorted([*stored_series(series), *amounts] for series, amounts in grown.items())
        await connection.execute(statement, arrays.bind(rows))


async def show(connection: AsyncConnection, shown: Iterable[GaugeLabels], recent: RecentRows) -> None:
    """Store the labels of open rows, except those in `recent`."""
    rows = {row for labels in shown if (row := gauge_row(*labels))[0] not in recent}
    if rows:
        arrays, statement = _show(dialect_of(connection))
        await connection.execute(statement, arrays.bind(sorted(rows)))


def value_columns(table: Table) -> tuple[str, ...]:
    """Return the value columns of a table of series."""
    return ("value",) if table is counters else ("sum_ms", *BUCKET_COLUMNS)


async def lock_series(connection: AsyncConnection) -> None:
    """Lock the creation and merging of series until the end of the transaction."""
    await connection.execute(select(locks).where(locks.c.name == SERIES_LOCK).with_for_update())


def _bucket(milliseconds: int) -> int:
    return bisect_left(STORED_BOUNDS, milliseconds)


async def _admit(
    connection: AsyncConnection, table: Table, wanted: Iterable[Series], max_series: int, recent: RecentRows
) -> Admitted:
    """Return the series to write to, by wanted series: itself, or its metric's overflow series."""
    admitted = {series: series for series in wanted}
    missing = await _missing(connection, table, [one for one in admitted if stored_series(one)[0] not in recent])
    if not missing:
        return admitted
    await lock_series(connection)
    missing = await _missing(connection, table, missing)
    room = await _room(connection, table, {metric.overflow() for metric, _ in missing}, max_series)
    for series in sorted(missing, key=lambda series: (series[0].name, series[1])):
        metric = series[0]
        overflow = metric.overflow()
        if series != overflow:
            room[metric.name] -= 1
            if room[metric.name] < 0:
                admitted[series] = overflow
    return admitted


async def _missing(connection: AsyncConnection, table: Table, wanted: Collection[Series]) -> list[Series]:
    if not wanted:
        return []
    keys = {stored_series(series)[0]: series for series in wanted}
    arrays, statement = _present(table, dialect_of(connection))
    found = {hexadecimal(key) for (key,) in await connection.execute(statement, arrays.bind([[key] for key in keys]))}
    return [series for key, series in keys.items() if key not in found]


async def _room(
    connection: AsyncConnection, table: Table, overflows: Collection[Series], max_series: int
) -> dict[str, int]:
    keys = [UUID(hex=stored_series(series)[0]) for series in overflows]
    metrics = [metric.name for metric, _ in overflows]
    statement = select(table.c.metric, func.count()).where(table.c.metric.in_(metrics), table.c.key.not_in(keys))
    rows = await connection.execute(statement.group_by(table.c.metric))
    return dict.fromkeys(metrics, max_series) | {metric: max_series - n for metric, n in rows}


@cache
def _present(table: Table, dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [table.c.key])
    return arrays, text(f"SELECT t.key FROM {arrays.source('k')} JOIN {table.name} AS t ON t.key = k.key")  # noqa: S608


@cache
def _upsert(table: Table, dialect: str, hold: bool) -> tuple[Arrays, TextClause]:
    values = value_columns(table)
    arrays = Arrays.of(dialect, [table.c[column] for column in ("key", "metric", "labels", *values)])
    columns = ", ".join(arrays.columns)
    grown = ", ".join(f"{column} = {table.name}.{column} + excluded.{column}" for column in values)
    now, held = BEGAN[dialect], "true" if hold else "false"
    return arrays, text(
        f"INSERT INTO {table.name} ({columns}, held, created_at, touched_at) "  # noqa: S608
        f"SELECT {columns}, {held}, {now}, {now} FROM {arrays.source('n')} WHERE true ORDER BY key "
        f"ON CONFLICT (key) DO UPDATE SET {grown}, touched_at = excluded.touched_at"
    )


@cache
def _show(dialect: str) -> tuple[Arrays, TextClause]:
    arrays = Arrays.of(dialect, [gauge_labels.c[column] for column in ("key", "metric", "labels")])
    return arrays, text(
        f"INSERT INTO gauge_labels (key, metric, labels, touched_at) "  # noqa: S608
        f"SELECT key, metric, labels, {BEGAN[dialect]} FROM {arrays.source('n')} WHERE true ORDER BY key "
        f"ON CONFLICT (key) DO UPDATE SET touched_at = excluded.touched_at "
        f"WHERE gauge_labels.touched_at < excluded.touched_at - {TOUCHED_EVERY}"
    )


def _overflows(admitted: Iterable[tuple[Series, Series]]) -> Counter[str]:
    return Counter(wanted[0].name for wanted, written in admitted if wanted != written)
