"""The tables of the store. Moments are Unix milliseconds, so that they mean the same on every database."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

from processor.series import METRICS

BUCKET_COLUMNS = tuple(f"bucket_{i}" for i in range(1 + max(len(metric.buckets) for metric in METRICS.values())))
"""One column a bucket, not cumulative; a histogram with fewer buckets leaves the last ones at 0."""

metadata = MetaData()

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True, comment="X-GitHub-Delivery"),
    Column("claimed_at", BigInteger, nullable=False, comment="when its effects were committed"),
    comment="Deliveries already counted; the same ID again is a duplicate.",
)
Index("deliveries_claimed_at", deliveries.c.claimed_at, postgresql_using="brin")


def _tracked() -> list[Column[object]]:
    """Return the columns of both runs and jobs; the label columns are filled only while open."""
    columns: list[Column[object]] = [
        Column("state", Text, nullable=False, comment="what is known, as lifecycle.Run or lifecycle.Job in JSON"),
        Column("phase", Text, comment="the gauge that it counts in; null once closed"),
        Column("since", BigInteger, comment="start of the age of the phase"),
        Column("repository", Text),
        Column("branch", Text),
        Column("workflow_name", Text),
        Column("touched_at", BigInteger, comment="when the last delivery about it was counted"),
        Column("closed_at", BigInteger, comment="when it was seen to be closed; null while open"),
        Column("asked_at", BigInteger, comment="when GitHub was last asked about it; null if never"),
    ]
    return columns


def _index_open_and_closed(table: Table) -> None:
    """Add indexes whose size follows the open rows (for gauges) and the closed ones (for retention)."""
    for name, column in (("open", table.c.phase), ("closed", table.c.closed_at)):
        present = column.is_not(None)
        Index(f"{table.name}_{name}", column, postgresql_where=present, sqlite_where=present)


runs = Table(
    "runs",
    metadata,
    Column("run_id", BigInteger, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    *_tracked(),
    comment="Attempts of workflow runs.",
)
_index_open_and_closed(runs)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", BigInteger, comment="null only while the row is being made"),
    Column("attempt", Integer),
    *_tracked(),
    comment="Jobs of workflow runs.",
)
_index_open_and_closed(jobs)

executions = Table(
    "executions",
    metadata,
    Column("fingerprint", LargeBinary(16), primary_key=True, comment="run, job name, runner, start and end"),
    Column("job_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    comment="Which job counted an execution first; later attempts report it again under other ids.",
)
Index("executions_claimed_at", executions.c.claimed_at, postgresql_using="brin")


def _series(name: str, *values: Column[int], comment: str) -> Table:
    return Table(
        name,
        metadata,
        Column("key", LargeBinary(16), primary_key=True, comment="fingerprint of metric and labels"),
        Column("metric", Text, nullable=False),
        Column("labels", Text, nullable=False, comment="label values as a JSON array"),
        *values,
        Column("created_at", BigInteger, nullable=False),
        Column("touched_at", BigInteger, nullable=False),
        Index(f"{name}_metric", "metric"),
        comment=comment,
        postgresql_with={"fillfactor": "70"},
    )


counters = _series("counters", Column("value", BigInteger, nullable=False), comment="The series of counters.")

histograms = _series(
    "histograms",
    Column("sum_ms", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in BUCKET_COLUMNS),
    comment="The series of histograms.",
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False, comment="by the database's clock"),
    comment="Who does what only one may do.",
)

cursors = Table(
    "cursors",
    metadata,
    Column("hook", Text, primary_key=True, comment="a hook as the setting GITHUB_HOOKS names it"),
    Column("failed_at", BigInteger, nullable=False, comment="failed deliveries up to this moment have been seen to"),
    comment="How far the failed deliveries of each hook have been recovered.",
)

locks = Table(
    "locks",
    metadata,
    Column("name", Text, primary_key=True),
    comment="Rows to lock; `series` is held while series are added, so that their bound holds.",
)
