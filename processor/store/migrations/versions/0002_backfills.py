"""Backfills."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables of backfills."""
    op.create_table(
        "past",
        sa.Column("began_at", sa.BigInteger(), autoincrement=False, nullable=False, comment="when its backfill began"),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False, comment="fingerprint of metric and labels"),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False, comment="end of the step of time"),
        sa.Column(
            "bound", sa.BigInteger(), autoincrement=False, nullable=False, comment="as in hourly; -2 for a sum in ms"
        ),
        sa.Column(
            "labels", sa.Text(), nullable=False, comment="label values by name, as a JSON object without empty ones"
        ),
        sa.Column(
            "value", sa.BigInteger(), nullable=False, comment="in the metric's stored unit; of histograms a number"
        ),
        sa.PrimaryKeyConstraint("began_at", "metric", "key", "step", "bound"),
        comment="What backfills counted, by step of time. It is in no series.",
    )
    op.create_table(
        "backfills",
        sa.Column("began_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="from when on it reads GitHub's runs"),
        sa.Column(
            "progress",
            sa.Text(),
            nullable=False,
            comment="creation time of the newest run read, by repository, in JSON",
        ),
        sa.Column("written_at", sa.BigInteger(), comment="when its file was complete; null before"),
        sa.PrimaryKeyConstraint("began_at"),
        comment="The backfills, and how far they are.",
    )
