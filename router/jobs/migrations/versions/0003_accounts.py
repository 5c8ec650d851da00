"""Whose jobs and files they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS = (("files", "account"), ("jobs", "account"), ("jobs", "principal"))


def upgrade() -> None:
    """Add columns; what is there belongs to nobody, and operators see it."""
    for table, name in _COLUMNS:
        column = sa.Column(name, sa.Text, nullable=False, server_default="")
        op.add_column(table, column)


def downgrade() -> None:
    """Drop them: everybody sees everything again."""
    for table, name in _COLUMNS:
        op.drop_column(table, name)
