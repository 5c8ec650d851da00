"""Migrates the tables: creates them in an empty database, or runs Alembic."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
)

from router.jobs.store.database import StoreError
from router.jobs.store.tables import METADATA

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
HEAD = "0003"
"""The newest revision; a test compares it with Alembic's own opinion."""

# As Alembic makes it.
_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def migrate(connection: Connection) -> None:
    """Bring the tables up to date in the connection's transaction. Raises StoreError.

    Alembic takes 12 MiB of memory, so that an empty database is created without it, as
    its cookbook shows ("Building an Up to Date Database from Scratch"). A test compares
    both ways.
    """
    found = _revision(connection)
    if found is None:
        _create(connection)
    elif found != HEAD:
        upgrade(connection)


def _create(connection: Connection) -> None:
    """Create all tables; raises if one of these names exists."""
    METADATA.create_all(connection, checkfirst=False)
    _VERSION.create(connection, checkfirst=True)
    connection.execute(_VERSION.insert().values(version_num=HEAD))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(_VERSION.select()).scalar()


def upgrade(connection: Connection) -> None:
    """Run Alembic's migrations. Raises StoreError."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreError(
            f"the job database was written by another release: {error}"
        ) from error
