"""Each database that jobs may be kept in."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.jobs.store.database import JobDatabase, database_url
from router.jobs.store.schema import migrate
from tests.harness.pgbouncer import PgBouncer, pgbouncer_program
from tests.harness.postgres import Postgres, postgres_folder


@pytest.fixture(scope="session")
def postgres():
    """One real PostgreSQL for all tests of the store."""
    if postgres_folder() is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    with Postgres() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pgbouncer(postgres):
    """A PgBouncer in front of it, with a server for each transaction."""
    if pgbouncer_program() is None:
        pytest.skip("no pgbouncer on PATH or in /usr/sbin")
    with PgBouncer(postgres, pool_mode="transaction", default_pool_size=3) as pooler:
        yield pooler


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def connect(request, tmp_path):
    """Open the same empty database as often as is asked; all are closed."""
    text = ""
    if request.param != "sqlite":
        text = request.getfixturevalue("postgres").fresh()
    if request.param == "pgbouncer":
        pooler = request.getfixturevalue("pgbouncer")
        text = pooler.url(text.rpartition("/")[2])
    opened = []

    def connected() -> JobDatabase:
        database = JobDatabase(database_url(text, tmp_path, None), migrate)
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
    database = JobDatabase(database_url("", tmp_path, None), migrate)
    database.open()
    yield database, Path(tmp_path / "jobs.db")
    database.close()
