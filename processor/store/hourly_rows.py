"""Adds to the sums by hour, in the transaction of a batch, and reads those of a window.

Every statement locks its rows in key order, as those on series do.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    TextClause,
    bindparam,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from processor.counting.fingerprints import Fingerprint, fingerprint
from processor.counting.hourly_sums import HOUR, STEPPED, HourlyLabels, HourlySum, Sum, Sums
from processor.store.arrays import Arrays
from processor.store.clock import BEGAN, database_now
from processor.store.engine import dialect_of
from processor.store.tables import hourly

_COLUMNS = ("key", *HourlyLabels._fields, "bound", "value")
_numbers = msgspec.json.Decoder(list[int]).decode


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
    now = int(await connection.scalar(select(database_now())) or 0)
    hour = now - now % HOUR
    began = hour - (hours - 1) * HOUR
    values = {
        "began": began,
        "hour": hour,
        "length": step * HOUR,
        "repository": repository,
        "runner_classes": ["", runner_class],
    }
    statement = _by_key(of_repository=repository is not None, of_class=runner_class is not None)
    return _sums(began, now, step * HOUR, await connection.execute(statement, values))


def _sums(began: int, now: int, length: int, rows: Iterable[Any]) -> Sums:
    """Return the sums of a window in the rows of `_by_key`; `length` is that of a step."""
    by_labels: list[Sum] = []
    by_kind: dict[HourlySum, list[int]] = {}
    none = [0] * ((now - began) // length + 1)
    for *texts, bound, written in rows:
        labels = HourlyLabels(*texts)
        numbers = _numbers(f"[{written}]")
        places, values = numbers[::2], numbers[1::2]
        by_labels.append(Sum(labels, bound, sum(values)))
        if labels.metric in STEPPED:
            kind = HourlySum(HourlyLabels(labels.metric, "", "", "", labels.conclusion), bound)
            steps = by_kind.setdefault(kind, none.copy())
            for place, value in zip(places, values, strict=True):
                steps[place] += value
    by_step: defaultdict[int, list[Sum]] = defaultdict(list)
    for kind, steps in by_kind.items():
        for place, value in enumerate(steps):
            if value:
                by_step[began + place * length].append(Sum(*kind, value))
    return Sums(began, now, by_labels, by_step)


@cache
def _by_key(*, of_repository: bool, of_class: bool) -> Select[Any]:
    """Return a statement for the labels and the bound of each key, and its steps: `PLACE,SUM,PLACE,SUM…`.

    It reads the window once. The key is shorter than the labels that it stands for, so the sums are grouped by it. The
    text of the statement contains the bounds of the window, so that PostgreSQL plans for them. It would otherwise plan
    for any range, thus for a short one, once a connection has read some windows.
    """
    columns = hourly.c
    began, hour = (bindparam(name, type_=BigInteger, literal_execute=True) for name in ("began", "hour"))
    chosen: list[ColumnElement[bool]] = [columns.hour.between(began, hour)]
    if of_repository:
        chosen.append(columns.repository == bindparam("repository"))
    if of_class:
        chosen.append(columns.runner_class.in_(bindparam("runner_classes", expanding=True)))
    place = ((columns.hour - began) // bindparam("length", type_=BigInteger, literal_execute=True)).label("place")
    latest, summed = func.max(columns.hour).label("hour"), func.sum(columns.value).label("summed")
    steps = select(columns.key, place, latest, summed).where(*chosen).group_by(columns.key, place).subquery()
    written = cast(steps.c.place, Text) + "," + cast(steps.c.summed, Text)
    keys = select(
        steps.c.key, func.max(steps.c.hour).label("hour"), func.aggregate_strings(written, ",").label("written")
    )
    of_key = keys.group_by(steps.c.key).subquery()
    labels = [columns[name] for name in HourlyLabels._fields]
    of_labels = (columns.hour == of_key.c.hour) & (columns.key == of_key.c.key)
    return select(*labels, columns.bound, of_key.c.written).join_from(of_key, hourly, of_labels)


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
