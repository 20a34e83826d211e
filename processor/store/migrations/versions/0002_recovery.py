"""What recovery remembers: how far each hook's failed deliveries were seen to, and when GitHub was asked about what."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table, and the column to runs and jobs, which the release before never reads nor names."""
    op.create_table(
        "cursors",
        sa.Column("hook", sa.Text(), nullable=False, comment="a hook as the setting GITHUB_HOOKS names it"),
        sa.Column(
            "failed_at",
            sa.BigInteger(),
            nullable=False,
            comment="failed deliveries up to this moment have been seen to",
        ),
        sa.PrimaryKeyConstraint("hook"),
        comment="How far the failed deliveries of each hook have been recovered.",
    )
    for table in ("runs", "jobs"):
        asked_at = sa.Column(
            "asked_at",
            sa.BigInteger(),
            nullable=True,
            comment="when GitHub was last asked about it; null if never",
        )
        op.add_column(table, asked_at)


def downgrade() -> None:
    """Take both away; nothing that was counted is in them."""
    for table in ("jobs", "runs"):
        op.drop_column(table, "asked_at")
    op.drop_table("cursors")
