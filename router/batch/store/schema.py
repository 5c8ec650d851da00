"""Brings the tables up to date by Alembic's migrations."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from router.batch.store.database import StoreError

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
HEAD = "0001"
"""The newest revision; a test compares it with Alembic's own opinion."""


def migrate(connection: Connection) -> None:
    """Run what is missing, in the connection's transaction. Raises StoreError.

    Alembic is 12 MiB resident: it is loaded only where there is something to do.
    """
    if _revision(connection) != HEAD:
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    return found.scalar()


def _upgrade(connection: Connection) -> None:
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
