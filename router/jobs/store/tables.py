"""The tables, as `router/jobs/migrations` makes them too; a test compares both."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from router.jobs.model import JobState

# States of jobs that are open, and of those that are over.
OPEN = [state.value for state in JobState if not state.over]
OVER = [state.value for state in JobState if state.over]

METADATA = MetaData()

# SQLite numbers rows by itself only in a column of exactly this type.
_Number = BigInteger().with_variant(Integer, "sqlite")

FILES = Table(
    "files",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("job", Text, nullable=False),
    Column("account", Text, nullable=False, server_default=""),
    Index("files_created", "created", "id"),
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("openai", Boolean, nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    Column("rows", Integer),
    Column("rows_read", Integer, nullable=False),
    Column("marks", Text, nullable=False),
    Column("faults", Text, nullable=False),
    Column("reduced", Text),
    Column("tallies", Text, nullable=False),
    Column("counts", Text),
    Column("owner", Text),
    Column("owned_until", Double),
    Column("notes", Text, nullable=False, server_default="[]"),
    Column("starts", Integer, nullable=False, server_default="0"),
    Column("parked", Text),
    Column("account", Text, nullable=False, server_default=""),
    Column("principal", Text, nullable=False, server_default=""),
    Index("jobs_created", "created", "id"),
    Index("jobs_state", "state"),
)

ITEMS = Table(
    "items",
    METADATA,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("job", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("rank", Double, nullable=False),  # minus the weight: the heaviest first
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("owner", Text),
    Column("leased_until", Double),
    Column("place", BigInteger, nullable=False, server_default="-1"),
    UniqueConstraint("job", "key", name="items_once"),
    # Counts, backlogs and the next to take are read from this alone.
    Index("items_next", "job", "state", "kind", "model", "wave", "rank", "id"),
)

RESULTS = Table(
    "results",
    METADATA,
    Column("seq", _Number, primary_key=True, autoincrement=True),
    Column("job", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("text", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("error", Text),
    Column("request_id", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("generated_tokens", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("ended", Double, nullable=False),
    # What makes a result be written once, whoever else finishes the item.
    UniqueConstraint("job", "key", name="results_once"),
    Index("results_in_order", "job", "kind", "row", "seq"),
    Index("results_as_they_came", "job", "seq"),
)
