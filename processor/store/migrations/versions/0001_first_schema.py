"""The first schema: deliveries, runs, jobs, executions, series, leases and locks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table and the lock rows."""
    op.create_table(
        "counters",
        sa.Column("key", sa.LargeBinary(length=16), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False, comment="label values as a JSON array"),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="The series of counters.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("counters_metric", "counters", ["metric"], unique=False)
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
        sa.Column(
            "fingerprint", sa.LargeBinary(length=16), nullable=False, comment="run, job name, runner, start and end"
        ),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
        comment="Which job counted an execution first; later attempts report it again under other ids.",
    )
    op.create_index("executions_claimed_at", "executions", ["claimed_at"], unique=False, postgresql_using="brin")
    op.create_table(
        "histograms",
        sa.Column("key", sa.LargeBinary(length=16), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False, comment="label values as a JSON array"),
        sa.Column("sum_ms", sa.BigInteger(), nullable=False),
        sa.Column("bucket_0", sa.BigInteger(), nullable=False),
        sa.Column("bucket_1", sa.BigInteger(), nullable=False),
        sa.Column("bucket_2", sa.BigInteger(), nullable=False),
        sa.Column("bucket_3", sa.BigInteger(), nullable=False),
        sa.Column("bucket_4", sa.BigInteger(), nullable=False),
        sa.Column("bucket_5", sa.BigInteger(), nullable=False),
        sa.Column("bucket_6", sa.BigInteger(), nullable=False),
        sa.Column("bucket_7", sa.BigInteger(), nullable=False),
        sa.Column("bucket_8", sa.BigInteger(), nullable=False),
        sa.Column("bucket_9", sa.BigInteger(), nullable=False),
        sa.Column("bucket_10", sa.BigInteger(), nullable=False),
        sa.Column("bucket_11", sa.BigInteger(), nullable=False),
        sa.Column("bucket_12", sa.BigInteger(), nullable=False),
        sa.Column("bucket_13", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        comment="The series of histograms.",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("histograms_metric", "histograms", ["metric"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True, comment="null only while the row is being made"),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="what is known, as lifecycle.Run or lifecycle.Job in JSON"
        ),
        sa.Column("phase", sa.Text(), nullable=True, comment="the gauge that it counts in; null once closed"),
        sa.Column("since", sa.BigInteger(), nullable=True, comment="start of the age of the phase"),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=True),
        sa.Column("touched_at", sa.BigInteger(), nullable=True, comment="when the last delivery about it was counted"),
        sa.Column(
            "closed_at", sa.BigInteger(), nullable=True, comment="when it was seen to be closed; null while open"
        ),
        sa.PrimaryKeyConstraint("job_id"),
        comment="Jobs of workflow runs.",
    )
    op.create_index(
        "jobs_closed",
        "jobs",
        ["closed_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "jobs_open",
        "jobs",
        ["phase"],
        unique=False,
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False, comment="by the database's clock"),
        sa.PrimaryKeyConstraint("name"),
        comment="Who does what only one may do.",
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        comment="Rows to lock; `series` is held while series are added, so that their bound holds.",
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="what is known, as lifecycle.Run or lifecycle.Job in JSON"
        ),
        sa.Column("phase", sa.Text(), nullable=True, comment="the gauge that it counts in; null once closed"),
        sa.Column("since", sa.BigInteger(), nullable=True, comment="start of the age of the phase"),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=True),
        sa.Column("workflow_name", sa.Text(), nullable=True),
        sa.Column("touched_at", sa.BigInteger(), nullable=True, comment="when the last delivery about it was counted"),
        sa.Column(
            "closed_at", sa.BigInteger(), nullable=True, comment="when it was seen to be closed; null while open"
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt"),
        comment="Attempts of workflow runs.",
    )
    op.create_index(
        "runs_closed",
        "runs",
        ["closed_at"],
        unique=False,
        postgresql_where=sa.text("closed_at IS NOT NULL"),
        sqlite_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "runs_open",
        "runs",
        ["phase"],
        unique=False,
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
    )
    op.execute("INSERT INTO locks (name) VALUES ('series')")


def downgrade() -> None:
    """Drop every table, with all that was counted."""
    op.drop_index(
        "runs_open",
        table_name="runs",
        postgresql_where=sa.text("phase IS NOT NULL"),
        sqlite_where=sa.text("phase IS NOT NULL"),
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
    op.drop_table("histograms")
    op.drop_index("executions_claimed_at", table_name="executions", postgresql_using="brin")
    op.drop_table("executions")
    op.drop_index("deliveries_claimed_at", table_name="deliveries", postgresql_using="brin")
    op.drop_table("deliveries")
    op.drop_index("counters_metric", table_name="counters")
    op.drop_table("counters")
