"""The tables of the store. Times are Unix milliseconds by the database's clock, except those from GitHub."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Index, MetaData, Table, Text, Uuid
from sqlalchemy.types import TypeEngine

from processor.counting.all_subjects import SUBJECTS
from processor.counting.catalogue import STORED_BOUNDS
from processor.counting.fingerprints import Fingerprint
from processor.counting.hourly_sums import HourlyLabels
from processor.counting.subjects import Subject

BUCKET_COLUMNS = (*(f"le_{bound}" for bound in STORED_BOUNDS), "le_inf")
"""One column for each stored bound in milliseconds; not cumulative."""

metadata = MetaData()

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True, comment="X-GitHub-Delivery"),
    Column("claimed_at", BigInteger, nullable=False, comment="when its effects were committed"),
    comment="Deliveries already counted; the same ID again is a duplicate.",
)
Index("deliveries_claimed_at", deliveries.c.claimed_at, postgresql_using="brin")

COLUMN_TYPES: dict[Any, TypeEngine[Any]] = {
    str: Text(),
    int: BigInteger(),
    bool: Boolean(),
    Fingerprint: Uuid(),
}
"""The column type of each Python type of keys and links."""


def _subject_table(subject: Subject[Any, Any]) -> Table:
    """Return the table of a subject. The label columns are not null only while a row is open."""
    columns: list[Column[Any]] = [
        Column(name, COLUMN_TYPES[kind], primary_key=True, autoincrement=False)
        for name, kind in subject.key.__annotations__.items()
    ]
    columns += [Column(name, COLUMN_TYPES[kind]) for name, kind in subject.link_columns.items()]
    columns += [
        Column("state", Text, comment="what is known, in JSON; null while the row is being made"),
        Column("flags", BigInteger, nullable=False, comment="what has been counted, as bits of counting.flags.Flag"),
        Column("touched_at", BigInteger, nullable=False, comment="when the last delivery about it was counted"),
    ]
    if subject.gauges is None:
        table = Table(f"{subject.name}s", metadata, *columns)
        Index(f"{table.name}_touched_at", table.c.touched_at, postgresql_using="brin")
        return table
    columns += [
        Column("unsettled", BigInteger, comment="bits of what waits for the end of news; null if nothing does"),
        Column("phase", Text, comment="the gauge that it counts in; null once closed"),
        Column("since", BigInteger, comment="start of the age of the phase"),
        *(Column(name, Text) for name in subject.gauges.label_names),
        Column("closed_at", BigInteger, comment="when it was seen to be closed; null while open"),
        Column("asked_at", BigInteger, comment="when GitHub was last asked about it; null if never"),
    ]
    table = Table(f"{subject.name}s", metadata, *columns)
    # Partial indexes: each contains only the open, unsettled, closed or failed rows, or the runs of forks.
    _partial_index(table, "open", "phase", table.c.phase.is_not(None))
    _partial_index(table, "unsettled", "touched_at", table.c.unsettled.is_not(None))
    _partial_index(table, "closed", "touched_at", table.c.closed_at.is_not(None))
    if "run_id" in subject.link_columns:
        _partial_index(table, "open_run", "run_id", table.c.phase.is_not(None))
    if "failed" in subject.link_columns:
        _partial_index(table, "failed", "finished_at", table.c.failed.is_(True))
        Index(
            f"{table.name}_name_key",
            table.c.name_key,
            table.c.finished_at,
            postgresql_where=table.c.name_key.is_not(None),
            sqlite_where=table.c.name_key.is_not(None),
        )
    if "fork" in subject.link_columns:
        _partial_index(table, "fork", "run_id", table.c.fork.is_not(None))
    return table


def _partial_index(table: Table, name: str, column: str, present: ColumnElement[bool]) -> None:
    Index(f"{table.name}_{name}", table.c[column], postgresql_where=present, sqlite_where=present)


SUBJECT_TABLES = {subject.name: _subject_table(subject) for subject in SUBJECTS}
"""The table of each subject, by its name."""

runs, jobs, executions = (SUBJECT_TABLES[name] for name in ("run", "job", "execution"))


def _series_table(name: str, *values: Column[int], comment: str) -> Table:
    table = Table(
        name,
        metadata,
        Column("key", Uuid, primary_key=True, comment="fingerprint of metric and labels"),
        Column("metric", Text, nullable=False),
        Column("labels", Text, nullable=False, comment="label values by name, as a JSON object without empty ones"),
        *values,
        Column("held", Boolean, nullable=False, comment="whether scrapers still see the new series as 0"),
        Column("created_at", BigInteger, nullable=False),
        Column("touched_at", BigInteger, nullable=False),
        Index(f"{name}_metric", "metric"),
        comment=comment,
        postgresql_with={"fillfactor": "70"},
    )
    _partial_index(table, "held", "created_at", table.c.held.is_(True))
    return table


counters = _series_table(
    "counters",
    Column("value", BigInteger, nullable=False, comment="in the metric's stored unit"),
    comment="The series of counters.",
)

histograms = _series_table(
    "histograms",
    Column("sum_ms", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in BUCKET_COLUMNS),
    comment="The series of histograms; le_N counts what is over the bound before and at most N milliseconds.",
)

gauge_labels = Table(
    "gauge_labels",
    metadata,
    Column("key", Uuid, primary_key=True, comment="fingerprint of metric and labels"),
    Column("metric", Text, nullable=False, comment="what the names of the gauges begin with"),
    Column("labels", Text, nullable=False, comment="label values by name, as a JSON object without empty ones"),
    Column("touched_at", BigInteger, nullable=False),
    comment="Labels under which something was open once: gauges show 0 for them.",
)

hourly = Table(
    "hourly",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False, comment="when the hour began"),
    Column("key", Uuid, primary_key=True, comment="fingerprint of the labels and the bound"),
    *(Column(name, Text, nullable=False) for name in HourlyLabels._fields),
    Column("bound", BigInteger, nullable=False, comment="of a histogram's bucket in ms; 0 without, -1 if infinite"),
    Column("value", BigInteger, nullable=False, comment="in the metric's stored unit; of histograms a number"),
    comment="What some metrics grew by in each hour, with fewer labels.",
    postgresql_with={"fillfactor": "70"},
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    comment="Who does what only one may do.",
)

cursors = Table(
    "cursors",
    metadata,
    Column("hook", Text, primary_key=True, comment="a hook as the setting GITHUB_HOOKS names it"),
    Column("failed_at", BigInteger, nullable=False, comment="failed deliveries up to this moment have been recovered"),
    comment="How far the failed deliveries of each hook have been recovered.",
)

past = Table(
    "past",
    metadata,
    Column("began_at", BigInteger, primary_key=True, autoincrement=False, comment="when its backfill began"),
    Column("metric", Text, primary_key=True),
    Column("key", Uuid, primary_key=True, comment="fingerprint of metric and labels"),
    Column("step", BigInteger, primary_key=True, autoincrement=False, comment="end of the step of time"),
    Column("bound", BigInteger, primary_key=True, autoincrement=False, comment="as in hourly; -2 for a sum in ms"),
    Column("labels", Text, nullable=False, comment="label values by name, as a JSON object without empty ones"),
    Column("value", BigInteger, nullable=False, comment="in the metric's stored unit; of histograms a number"),
    comment="What backfills counted, by step of time. It is in no series.",
)

backfills = Table(
    "backfills",
    metadata,
    Column("began_at", BigInteger, primary_key=True, autoincrement=False),
    Column("since", BigInteger, nullable=False, comment="from when on it reads GitHub's runs"),
    Column("progress", Text, nullable=False, comment="creation time of the newest run read, by repository, in JSON"),
    Column("written_at", BigInteger, comment="when its file was complete; null before"),
    comment="The backfills, and how far they are.",
)

locks = Table(
    "locks",
    metadata,
    Column("name", Text, primary_key=True),
    comment="Rows to lock; `series` is held while series are added or merged.",
)
