"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BUCKETS = (
    *("le_100", "le_500", "le_1000", "le_2000", "le_3000", "le_5000", "le_10000", "le_15000", "le_30000", "le_60000"),
    *("le_120000", "le_300000", "le_600000", "le_900000", "le_1200000", "le_1800000", "le_2700000", "le_3600000"),
    *("le_7200000", "le_14400000", "le_21600000", "le_28800000", "le_86400000", "le_172800000", "le_259200000"),
    *("le_604800000", "le_1209600000", "le_2592000000", "le_inf"),
)


def upgrade() -> None:
    """Make every table, and the lock rows."""
    op.create_table(
        "counters",
        sa.Column("key", sa.Uuid(), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column(
            "labels", sa.Text(), nullable=False, comment="label values by name, as a JSON object without empty ones"
        ),
        sa.Column("value", sa.BigInteger(), nullable=False, comment="in the metric's stored unit"),
        sa.Column("held", sa.Boolean(), nullable=False, comment="whether scrapers still see the new series as 0"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="The series of counters.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "counters_held",
        "counters",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("held IS true"),
        sqlite_where=sa.text("held IS 1"),
    )
    op.create_index("counters_metric", "counters", ["metric"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("hook", sa.Text(), nullable=False, comment="a hook as the setting GITHUB_HOOKS names it"),
        sa.Column(
            "failed_at",
            sa.BigInteger(),
            nullable=False,
            comment="failed deliveries up to this moment have been recovered",
        ),
        sa.PrimaryKeyConstraint("hook"),
        comment="How far the failed deliveries of each hook have been recovered.",
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), nullable=False, comment="X-GitHub-Delivery"),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False, comment="when its effects were committed"),
        sa.PrimaryKeyConstraint("id"),
        comment="Deliveries already counted; the same ID again is a duplicate.",
    )
    op.create_index("deliveries_claimed_at", "deliveries", ["claimed_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "executions",
        sa.Column("fingerprint", sa.Uuid(), autoincrement=False, nullable=False),
        sa.Column(
            "state", sa.Text(), nullable=True, comment="what is known, in JSON; null while the row is being made"
        ),
        sa.Column(
            "flags", sa.BigInteger(), nullable=False, comment="what has been counted, as bits of counting.flags.Flag"
        ),
        sa.Column("touched_at", sa.BigInteger(), nullable=False, comment="when the last delivery about it was counted"),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_index("executions_touched_at", "executions", ["touched_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "flaky_jobs",
        sa.Column("fingerprint", sa.Uuid(), autoincrement=False, nullable=False),
        sa.Column(
            "state", sa.Text(), nullable=True, comment="what is known, in JSON; null while the row is being made"
        ),
        sa.Column(
            "flags", sa.BigInteger(), nullable=False, comment="what has been counted, as bits of counting.flags.Flag"
        ),
        sa.Column("touched_at", sa.BigInteger(), nullable=False, comment="when the last delivery about it was counted"),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_index("flaky_jobs_touched_at", "flaky_jobs", ["touched_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "gauge_labels",
        sa.Column("key", sa.Uuid(), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("metric", sa.Text(), nullable=False, comment="what the names of the gauges begin with"),
        sa.Column(
            "labels", sa.Text(), nullable=False, comment="label values by name, as a JSON object without empty ones"
        ),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="Labels under which something was open once: gauges show 0 for them.",
    )
    op.create_table(
        "histograms",
        sa.Column("key", sa.Uuid(), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column(
            "labels", sa.Text(), nullable=False, comment="label values by name, as a JSON object without empty ones"
        ),
        sa.Column("sum_ms", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _BUCKETS),
        sa.Column("held", sa.Boolean(), nullable=False, comment="whether scrapers still see the new series as 0"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="The series of histograms; le_N counts what is over the bound before and at most N milliseconds.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "histograms_held",
        "histograms",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("held IS true"),
        sqlite_where=sa.text("held IS 1"),
    )
    op.create_index("histograms_metric", "histograms", ["metric"], unique=False)
    op.create_table(
        "hourly",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False, comment="when the hour began"),
        sa.Column("key", sa.Uuid(), nullable=False, comment="fingerprint of the labels and the bound"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("workflow_name", sa.Text(), nullable=False),
        sa.Column("runner_class", sa.Text(), nullable=False),
        sa.Column("conclusion", sa.Text(), nullable=False),
        sa.Column(
            "bound",
            sa.BigInteger(),
            nullable=False,
            comment="of a histogram's bucket in ms; 0 without, -1 if infinite",
        ),
        sa.Column(
            "value", sa.BigInteger(), nullable=False, comment="in the metric's stored unit; of histograms a number"
        ),
        sa.PrimaryKeyConstraint("hour", "key"),
        comment="What some metrics grew by in each hour, with fewer labels.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_table(
        "jobs",
        sa.Column("host", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=True),
        sa.Column("name_key", sa.Uuid(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.Column(
            "state", sa.Text(), nullable=True, comment="what is known, in JSON; null while the row is being made"
        ),
        sa.Column(
            "flags", sa.BigInteger(), nullable=False, comment="what has been counted, as bits of counting.flags.Flag"
        ),
        sa.Column("touched_at", sa.BigInteger(), nullable=False, comment="when the last delivery about it was counted"),
        sa.Column(
            "unsettled",
            sa.BigInteger(),
            nullable=True,
            comment="bits of what waits for the end of news; null if nothing does",
        ),
        sa.Column("phase", sa.Text(), nullable=True, comment="the gauge that it counts in; null once closed"),
        sa.Column("since", sa.BigInteger(), nullable=True, comment="start of the age of the phase"),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=True),
        sa.Column("runner_class", sa.Text(), nullable=True),
        sa.Column(
            "closed_at", sa.BigInteger(), nullable=True, comment="when it was seen to be closed; null while open"
        ),
        sa.Column(
            "asked_at", sa.BigInteger(), nullable=True, comment="when GitHub was last asked about it; null if never"
        ),
        sa.PrimaryKeyConstraint("host", "job_id"),
    )
    op.create_index(
        "jobs_closed",
        "jobs",
        ["touched_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "jobs_failed",
        "jobs",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("failed IS true"),
        sqlite_where=sa.text("failed IS 1"),
    )
    op.create_index(
        "jobs_name_key",
        "jobs",
        ["name_key", "finished_at"],
        unique=False,
        postgresql_where=sa.text("name_key IS NOT NULL"),
        sqlite_where=sa.text("name_key IS NOT NULL"),
    )
    op.create_index(
        "jobs_open",
        "jobs",
        ["phase"],
        unique=False,
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.create_index(
        "jobs_open_run",
        "jobs",
        ["run_id"],
        unique=False,
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.create_index(
        "jobs_unsettled",
        "jobs",
        ["touched_at"],
        unique=False,
        postgresql_where=sa.text("unsettled IS NOT NULL"),
        sqlite_where=sa.text("unsettled IS NOT NULL"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="Who does what only one may do.",
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="Rows to lock; `series` is held while series are added or merged.",
    )
    op.create_table(
        "runs",
        sa.Column("host", sa.Text(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fork", sa.Boolean(), nullable=True),
        sa.Column(
            "state", sa.Text(), nullable=True, comment="what is known, in JSON; null while the row is being made"
        ),
        sa.Column(
            "flags", sa.BigInteger(), nullable=False, comment="what has been counted, as bits of counting.flags.Flag"
        ),
        sa.Column("touched_at", sa.BigInteger(), nullable=False, comment="when the last delivery about it was counted"),
        sa.Column(
            "unsettled",
            sa.BigInteger(),
            nullable=True,
            comment="bits of what waits for the end of news; null if nothing does",
        ),
        sa.Column("phase", sa.Text(), nullable=True, comment="the gauge that it counts in; null once closed"),
        sa.Column("since", sa.BigInteger(), nullable=True, comment="start of the age of the phase"),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=True),
        sa.Column(
            "closed_at", sa.BigInteger(), nullable=True, comment="when it was seen to be closed; null while open"
        ),
        sa.Column(
            "asked_at", sa.BigInteger(), nullable=True, comment="when GitHub was last asked about it; null if never"
        ),
        sa.PrimaryKeyConstraint("host", "run_id", "attempt"),
    )
    op.create_index(
        "runs_closed",
        "runs",
        ["touched_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "runs_fork",
        "runs",
        ["run_id"],
        unique=False,
        postgresql_where=sa.text("fork IS NOT NULL"),
        sqlite_where=sa.text("fork IS NOT NULL"),
    )
    op.create_index(
        "runs_open",
        "runs",
        ["phase"],
        unique=False,
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.create_index(
        "runs_unsettled",
        "runs",
        ["touched_at"],
        unique=False,
        postgresql_where=sa.text("unsettled IS NOT NULL"),
        sqlite_where=sa.text("unsettled IS NOT NULL"),
    )
    op.execute("INSERT INTO locks (name) VALUES ('series')")


def downgrade() -> None:
    """Drop every table, with all that was counted."""
    op.drop_index(
        "runs_unsettled",
        table_name="runs",
        postgresql_where=sa.text("unsettled IS NOT NULL"),
        sqlite_where=sa.text("unsettled IS NOT NULL"),
    )
    op.drop_index(
        "runs_open",
        table_name="runs",
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.drop_index(
        "runs_fork",
        table_name="runs",
        postgresql_where=sa.text("fork IS NOT NULL"),
        sqlite_where=sa.text("fork IS NOT NULL"),
    )
    op.drop_index(
        "runs_closed",
        table_name="runs",
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.drop_table("runs")
    op.drop_table("locks")
    op.drop_table("leases")
    op.drop_index(
        "jobs_unsettled",
        table_name="jobs",
        postgresql_where=sa.text("unsettled IS NOT NULL"),
        sqlite_where=sa.text("unsettled IS NOT NULL"),
    )
    op.drop_index(
        "jobs_open_run",
        table_name="jobs",
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.drop_index(
        "jobs_open",
        table_name="jobs",
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.drop_index(
        "jobs_closed",
        table_name="jobs",
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.drop_table("jobs")
    op.drop_index("histograms_metric", table_name="histograms")
    op.drop_index(
        "histograms_held",
        table_name="histograms",
        postgresql_where=sa.text("held IS true"),
        sqlite_where=sa.text("held IS 1"),
    )
    op.drop_table("histograms")
    op.drop_table("gauge_labels")
    op.drop_index("flaky_jobs_touched_at", table_name="flaky_jobs", postgresql_using="brin")
    op.drop_table("flaky_jobs")
    op.drop_index("executions_touched_at", table_name="executions", postgresql_using="brin")
    op.drop_table("executions")
    op.drop_index("deliveries_claimed_at", table_name="deliveries", postgresql_using="brin")
    op.drop_table("deliveries")
    op.drop_table("cursors")
    op.drop_index("counters_metric", table_name="counters")
    op.drop_index(
        "counters_held",
        table_name="counters",
        postgresql_where=sa.text("held IS true"),
        sqlite_where=sa.text("held IS 1"),
    )
    op.drop_table("counters")
