"""Each database that jobs may be kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.jobs.store.database import Database, database_url
from router.jobs.store.schema import migrate
from tests.harness.postgres import Postgres, postgres_folder


@pytest.fixture(scope="session")
def postgres():
    """One real PostgreSQL for all tests of the store."""
    if postgres_folder() is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    with Postgres() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def connect(request, tmp_path):
    """Open the same empty database as often as is asked; all are closed."""
    text = ""
    if request.param == "postgresql":
        text = request.getfixturevalue("postgres").fresh()
    opened = []

    def connected() -> Database:
        database = Database(database_url(text, tmp_path, None), migrate)
        opened.append(database)
        database.open()
        return database

    yield connected
    for database in opened:
        database.close()


@pytest.fixture
def database(connect):
    return connect()


@pytest.fixture
def sqlite(tmp_path):
    """SQLite alone, and its file."""
    database = Database(database_url("", tmp_path, None), migrate)
    database.open()
    yield database, Path(tmp_path / "jobs.db")
    database.close()
