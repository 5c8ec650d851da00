"""Files, jobs, items and results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create everything."""
    _files()
    _jobs()
    _items()
    _results()


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("job", sa.Text, nullable=False),
    )
    op.create_index("files_created", "files", ["created", "id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("openai", sa.Boolean, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("rows", sa.Integer),
        sa.Column("rows_read", sa.Integer, nullable=False),
        sa.Column("marks", sa.Text, nullable=False),
        sa.Column("faults", sa.Text, nullable=False),
        sa.Column("reduced", sa.Text),
        sa.Column("tallies", sa.Text, nullable=False),
        sa.Column("counts", sa.Text),
        sa.Column("owner", sa.Text),
        sa.Column("owned_until", sa.Double),
    )
    op.create_index("jobs_created", "jobs", ["created", "id"])
    op.create_index("jobs_state", "jobs", ["state"])


def _items() -> None:
    op.create_table(
        "items",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("custom_id", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("rank", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("leased_until", sa.Double),
        sa.UniqueConstraint("job", "key", name="items_once"),
    )
    op.create_index(
        "items_next", "items", ["job", "state", "kind", "model", "wave", "rank", "id"]
    )


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("custom_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("generated_tokens", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("ended", sa.Double, nullable=False),
        sa.UniqueConstraint("job", "key", name="results_once"),
    )
    op.create_index("results_in_order", "results", ["job", "kind", "row", "seq"])
    op.create_index("results_as_they_came", "results", ["job", "seq"])


def downgrade() -> None:
    """Drop everything."""
    for table in ("results", "items", "jobs", "files"):
        op.drop_table(table)
