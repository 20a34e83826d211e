"""Merges series after a release has dropped a label of their metric.

The rows in the store are merged for good. If a later release adds the label again, new series start at 0.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.ci_metrics import Catalogue, CiMetric, Series
from processor.store.series_rows import lock_series, stored_series, upsert, value_columns
from processor.store.tables import counters, histograms

MERGE_CHUNK = 1000
"""Maximum number of rows that are merged in one transaction."""

LABELS = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Dropped:
    """A series with labels that its metric no longer has, and the series without them."""

    table: Table
    key: UUID
    series: Series


async def find_dropped(connection: AsyncConnection, catalogue: Catalogue) -> Sequence[Dropped]:
    """Return at most `MERGE_CHUNK` series with a label that their metric no longer has."""
    found: list[Dropped] = []
    for table in (counters, histograms):
        async for key, metric, labels in _series(connection, table, catalogue):
            series = _projected(metric, labels)
            if series is not None:
                found.append(Dropped(table, key, series))
                if len(found) >= MERGE_CHUNK:
                    return found
    return found


async def merge(connection: AsyncConnection, found: Iterable[Dropped]) -> int:
    """Add the values of series with a dropped label to the series without it; return how many were merged."""
    await lock_series(connection)
    by_table: dict[Table, dict[UUID, Series]] = defaultdict(dict)
    for one in found:
        by_table[one.table][one.key] = one.series
    return sum([await _merge(connection, table, dropped) for table, dropped in by_table.items()])


async def _merge(connection: AsyncConnection, table: Table, dropped: Mapping[UUID, Series]) -> int:
    values = value_columns(table)
    columns = [table.c[name] for name in ("key", "created_at", "held", *values)]
    # The target series and the merged series are locked together, in key order like those of a batch.
    keys = {*dropped, *(UUID(hex=stored_series(series)[0]) for series in dropped.values())}
    rows = await connection.execute(
        select(*columns).where(table.c.key.in_(keys)).order_by(table.c.key).with_for_update()
    )
    sums: dict[Series, list[int]] = {}
    created: dict[Series, int] = {}
    released: set[Series] = set()
    gone: list[UUID] = []
    for key, created_at, held, *amounts in rows:
        series = dropped.get(key)
        if series is None:
            continue
        before = sums.get(series, [0] * len(values))
        sums[series] = [one + other for one, other in zip(before, amounts, strict=True)]
        created[series] = min(created.get(series, created_at), created_at)
        if not held:
            released.add(series)
        gone.append(key)
    await connection.execute(delete(table).where(table.c.key.in_(gone)))
    await upsert(connection, table, sums, hold=True)
    for series, created_at in created.items():
        own = table.c.key == UUID(hex=stored_series(series)[0])
        statement = update(table).where(own, table.c.created_at > created_at).values(created_at=created_at)
        await connection.execute(statement)
        if series in released:
            await connection.execute(update(table).where(own).values(held=False))
    return len(gone)


async def _series(
    connection: AsyncConnection, table: Table, catalogue: Catalogue
) -> AsyncIterator[tuple[UUID, CiMetric[Any], str]]:
    statement = select(table.c.key, table.c.metric, table.c.labels)
    async with connection.stream(statement.execution_options(yield_per=2000)) as result:
        async for rows in result.partitions():
            for key, name, labels in rows:
                metric = catalogue.get(name)
                if metric is not None:
                    yield key, metric, labels


def _projected(metric: CiMetric[Any], labels: str) -> Series | None:
    """Return the target series for stored labels, or None if the metric still has all of them."""
    try:
        named: Mapping[str, str] = LABELS.decode(labels)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if named.keys() <= set(metric.label_names):
        return None
    return metric, tuple(named.get(name, "") for name in metric.label_names)
