"""The database thread: batched commits, and what becomes of a call that fails."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from router.errors import ConfigError, NotFoundError
from router.jobs.spec import spec_text
from router.jobs.store import items, jobs
from router.jobs.store.database import (
    JobDatabase,
    StoreError,
    StoreFullError,
    as_request_error,
    database_url,
)
from router.jobs.store.schema import HEAD, MIGRATIONS, migrate, upgrade
from router.jobs.store.tables import METADATA
from tests.harness.process import ROOT
from tests.router.jobs.store.stage import JOB, PLACE, a_job, filled, item


def test_calls_of_one_moment_share_a_commit(database):
    """What comes while the disk is busy goes in the next commit, all of it."""
    commits = []
    database.committed = lambda _seconds, calls: commits.append(calls)
    filled(database, 0)

    def add(n):
        database.write(lambda c: items.add(c, JOB, [item(n)], 1.0))

    commits.clear()
    gevent.joinall([gevent.spawn(add, n) for n in range(40)], raise_error=True)
    assert 40 == sum(commits)
    assert len(commits) <= 3
    assert 40 == database.read(lambda c: items.counts(c, JOB))[0].waiting


def test_a_call_that_refuses_is_undone_alone(database):
    """The others of its commit stand."""
    filled(database, 0)

    def half(connection):
        items.add(connection, JOB, [item(7)], 1.0)
        raise NotFoundError("on purpose")

    def add(n):
        database.write(lambda c: items.add(c, JOB, [item(n)], 1.0))

    refused = gevent.spawn(lambda: database.write(half))
    others = [gevent.spawn(add, n) for n in range(5)]
    with pytest.raises(NotFoundError, match="on purpose"):
        refused.get()
    gevent.joinall(others, raise_error=True)
    assert 5 == database.read(lambda c: items.counts(c, JOB))[0].waiting


def test_a_call_that_breaks_spares_the_others(database):
    """An error of the database's own ends the commit; the rest is done apart."""
    filled(database, 0)

    def add(n):
        database.write(lambda c: items.add(c, JOB, [item(n)], 1.0))

    def broken(connection):
        connection.execute(text("SELECT nonsense FROM nowhere"))

    def fail():
        database.write(broken)

    with pytest.raises(StoreError, match="fails"):
        gevent.joinall(
            [gevent.spawn(each) for each in (lambda: add(1), fail)], raise_error=True
        )
    add(2)
    assert 2 == database.read(lambda c: items.counts(c, JOB))[0].waiting


def test_a_bug_in_a_call_reaches_its_caller(database):
    """And the thread goes on."""
    with pytest.raises(ZeroDivisionError):
        database.write(lambda _: 1 / 0)
    filled(database, 1)


def test_the_loop_turns_while_the_database_is_busy(database):
    """A slow call holds nobody but who waits for it."""
    filled(database, 0)
    ticks = []

    def tick():
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.005)

    def slow(connection):
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_sleep(0.4)"))
        else:
            count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n"
            connection.execute(text(f"{count} WHERE x < 2000000) SELECT max(x) FROM n"))

    ticking = gevent.spawn(tick)
    began = time.monotonic()
    database.read(slow)
    spent = time.monotonic() - began
    ticking.kill()
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert spent > 0.1
    assert max(gaps) < spent / 2


def test_migrations_make_the_tables_that_the_code_knows(connect):
    """And all else that an empty database is given at once, without them."""

    def drop(connection):
        METADATA.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        assert {} == seen(connection)

    database = connect()
    at_once = database.read(seen)
    assert METADATA.tables.keys() | {"alembic_version"} == at_once.keys()
    database.write(drop)
    database.write(upgrade)
    assert at_once == database.read(seen)


def test_a_database_of_the_release_before_is_taken_over(connect):
    """Its items have their requests stored; nothing of a job is lost."""
    database = connect()

    def back(connection):
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO jobs (id, openai, spec, state, paused, created, rows_read,"
                " marks, faults, tallies) VALUES ('batch_1', :yes, :spec,"
                " 'in_progress', :no, 1.0, 1, '{}', '[]', '{}')"
            ),
            {"spec": spec_text(a_job().spec), "yes": True, "no": False},
        )
        connection.execute(
            text(
                "INSERT INTO items (job, key, kind, row, custom_id, endpoint, model,"
                " body, size, wave, rank, state, tries) VALUES ('batch_1', '0', 'row',"
                " 0, 'c0', '/v1/x', 'm:latest', :body, 7, 0, -1.0, 'waiting', 0)"
            ),
            {"body": b'{"n":0}'},
        )

    database.write(back)
    after = connect()
    found = after.read(lambda c: jobs.get(c, JOB))
    assert ((), None) == (found.notes, found.parked)
    (leased,) = after.write(lambda c: items.lease(c, "me", 1e12, PLACE, 9))
    assert (-1, b'{"n":0}') == (
        leased.place,
        after.read(lambda c: items.body(c, leased.id)),
    )


def seen(connection):
    """Return all that the database tells of its tables, and the revision."""
    found = inspect(connection)
    return {
        name: (
            [each | {"type": str(each["type"])} for each in found.get_columns(name)],
            found.get_pk_constraint(name),
            sorted(found.get_indexes(name), key=lambda each: each["name"]),
            sorted(found.get_unique_constraints(name), key=lambda each: each["name"]),
            connection.execute(text("SELECT version_num FROM alembic_version")).all(),
        )
        for name in found.get_table_names()
    }


def test_tables_of_others_are_not_mistaken_for_ours(connect):
    """A table of our name that no release of ours has made ends the start."""
    database = connect()
    database.write(lambda c: c.execute(text("DROP TABLE alembic_version")))
    with pytest.raises(StoreError, match="already exists"):
        connect()


def test_an_empty_database_does_without_alembic(tmp_path):
    """It would stay in the router's memory for good; nor is the other dialect there."""
    code = f"""
import sys
from pathlib import Path
from router.jobs.store import items, schema
from router.jobs.store.database import JobDatabase, database_url
from tests.router.jobs.store.stage import item
database = JobDatabase(database_url("", Path({str(tmp_path)!r}), None), schema.migrate)
database.open()
database.write(lambda c: items.add(c, "job", [item(1)], 1.0))
loaded = {{"alembic", "mako", "sqlalchemy.dialects.postgresql"}} & set(sys.modules)
print(sorted(loaded))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    assert answer.stdout.strip() == b"[]"


def test_migrations_run_once(connect):
    """A second router finds the tables as they are."""
    filled(connect(), 3)
    assert 3 == connect().read(lambda c: items.counts(c, JOB))[0].waiting


def test_a_newer_release_has_been_here(tmp_path):
    """Its tables are left alone."""
    first = JobDatabase(database_url("", tmp_path, None), migrate)
    first.open()
    first.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num='9'")))
    first.close()
    second = JobDatabase(database_url("", tmp_path, None), migrate)
    with pytest.raises(StoreError, match="written by another release"):
        second.open()
    second.close()


def test_a_locked_file_is_told_within_the_busy_time(sqlite):
    """And what was asked can be asked again once it is free."""
    database, path = sqlite
    filled(database, 1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):  # it is never released
            database.write(lambda c: items.add(c, JOB, [item(8)], 1.0))
        assert "locked" in database.fault
        found = database.read(lambda c: jobs.get(c, JOB))  # reading goes on
        assert JOB == found.id
        other.execute("ROLLBACK")
    database.write(lambda c: items.add(c, JOB, [item(8)], 1.0))
    assert database.fault is None


def test_a_full_disk_is_told_as_such(small_disk):
    """Nothing of the call is kept, and what was there stays."""
    database = JobDatabase(database_url("", small_disk, None), migrate)
    database.open()
    filled(database, 2)
    page = [item(n) for n in range(60_000)]
    with pytest.raises(StoreFullError) as raised:
        database.write(lambda c: items.add(c, JOB, page, 1.0))
    assert 507 == as_request_error(raised.value).status
    assert 2 == database.read(lambda c: items.counts(c, JOB))[0].waiting
    assert JOB == database.read(lambda c: jobs.get(c, JOB)).id
    database.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a tmpfs cannot be mounted here: root is needed")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_closed_database_refuses(tmp_path):
    """Nobody waits for what will never be done."""
    database = JobDatabase(database_url("", tmp_path, None), migrate)
    database.open()
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.read(lambda c: jobs.get(c, JOB))


def test_errors_hold_no_prompts(database):
    """What people sent must not reach the log."""
    filled(database, 0)
    with pytest.raises(StoreError) as raised:
        database.write(
            lambda c: c.execute(text("SELECT :secret FROM nowhere"), {"secret": "hush"})
        )
    assert "hush" not in str(raised.value)


class TestUrl:
    """Where the database is."""

    def test_sqlite_lies_in_the_state_directory(self):
        """Where nothing else is said."""
        assert "sqlite:////a/b/jobs.db" == str(database_url("", Path("/a/b"), None))

    def test_the_password_comes_from_a_file(self, tmp_path):
        """And is not shown."""
        secret = tmp_path / "password"
        secret.write_text("hush\n")
        url = database_url("postgresql://me@db/jobs", tmp_path, secret)
        assert ("hush", "postgresql+psycopg") == (url.password, url.drivername)
        assert "hush" not in str(url)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("mysql://me@db/jobs", "jobs.database: must begin with postgresql://"),
            ("postgresql://me:hush@db/jobs", "a password belongs into a file"),
            ("no url", "jobs.database: not a URL"),
        ],
    )
    def test_others_are_refused_without_showing_them(self, tmp_path, given, message):
        """A password may stand in them."""
        with pytest.raises(ConfigError, match=message) as raised:
            database_url(given, tmp_path, None)
        assert "hush" not in str(raised.value)


def test_the_newest_revision_is_known():
    """The code's own word, by which Alembic is spared, is Alembic's."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
