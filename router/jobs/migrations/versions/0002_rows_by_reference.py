"""Rows by reference, notes on how a file was read, jobs that are parked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; what is there keeps its stored requests."""
    op.add_column(
        "items",
        sa.Column("place", sa.BigInteger, nullable=False, server_default="-1"),
    )
    op.add_column(
        "jobs", sa.Column("notes", sa.Text, nullable=False, server_default="[]")
    )
    op.add_column(
        "jobs", sa.Column("starts", sa.Integer, nullable=False, server_default="0")
    )
    op.add_column("jobs", sa.Column("parked", sa.Text))


def downgrade() -> None:
    """Drop them; items whose rows are in their file are lost."""
    op.drop_column("items", "place")
    for name in ("notes", "starts", "parked"):
        op.drop_column("jobs", name)
