"""What is over its time goes, with its room on the disk; what runs stays."""

from __future__ import annotations

import time

import gevent
import pytest
from sqlalchemy import Connection, create_engine, text

from router.errors import ConflictError, NotFoundError
from router.jobs.input.uploads import Uploads
from router.jobs.model import JobState, StoredFile
from router.jobs.retention import Retention
from router.jobs.store import files, items, jobs, space
from router.jobs.store.database import JobDatabase, database_url
from router.jobs.store.schema import migrate
from router.jobs.store.tables import JOBS
from tests.router.jobs.store.stage import JOB, a_job, filled, item

DAY = 86_400.0


@pytest.fixture
def uploads(tmp_path):
    (tmp_path / "files").mkdir()
    return Uploads(tmp_path / "files")


@pytest.fixture
def retention(database, uploads):
    return Retention(database, uploads, lambda: 30 * DAY)


def ended(database, job, days_ago, *, created=None, state=JobState.COMPLETED):
    """Keep a job of three items that ended so long ago."""
    at = time.time() - days_ago * DAY
    filled(database, 3, a_job(job, created=created or at - 60))
    before = [JobState.IN_PROGRESS]
    database.write(lambda c: jobs.advance(c, job, before, state, at))


def kept(database) -> set[str]:
    found = database.read(lambda c: c.execute(text("SELECT id FROM jobs")).scalars())
    return set(found)


def count(database, table: str) -> int:
    query = text(f"SELECT count(*) FROM {table}")
    return database.read(lambda c: c.execute(query).scalar_one())


def upload(database, uploads, name, days_ago, **more):
    created = time.time() - days_ago * DAY
    found = StoredFile(name, "d.csv", "dataset", 3, created, **more)
    database.write(lambda c: files.add(c, found))
    uploads.path(name).write_bytes(b"a,b")


def test_old_jobs_go_with_all_that_is_theirs(database, retention):
    """By when they ended, not by when they were made."""
    ended(database, "old", 31)
    ended(database, "failed", 40, state=JobState.FAILED)
    ended(database, "young", 29, created=time.time() - 60 * DAY)
    retention.sweep()
    assert {"young"} == kept(database)
    assert 3 == count(database, "items")
    assert (("asked", 0), ("retention", 2)) == retention.kept.deleted


@pytest.mark.parametrize(
    "state",
    [state for state in JobState if not state.over],
)
def test_nothing_of_a_job_that_runs_is_deleted(database, retention, uploads, state):
    """However old it is: neither by time nor when somebody asks."""
    filled(database, 3, a_job(created=time.time() - 400 * DAY, state=state))
    upload(database, uploads, "file-1", 400)
    retention.sweep()
    with pytest.raises(ConflictError, match=f"is {state.value}: cancel it first"):
        retention.remove_job(JOB)
    with pytest.raises(ConflictError, match=f"'{JOB}' uses file 'file-1'"):
        retention.remove_file("file-1")
    assert (1, 3, 1) == tuple(count(database, t) for t in ("jobs", "items", "files"))
    assert uploads.here("file-1")


def test_zero_keeps_for_ever(database, uploads):
    """No job goes, and no file."""
    ended(database, "old", 4000)
    upload(database, uploads, "file-9", 4000)
    Retention(database, uploads, lambda: 0.0).sweep()
    assert {"old"} == kept(database)
    assert uploads.here("file-9")


def test_files_that_no_kept_job_has_go(database, retention, uploads):
    """A file outlives its time while a job that is kept was made of it."""
    ended(database, "young", 1)  # of file-1
    for name in ("file-1", "file-2", "file-3"):
        upload(database, uploads, name, 3 if name == "file-3" else 90)
    retention.sweep()
    assert [True, False, True] == [uploads.here(f"file-{n}") for n in (1, 2, 3)]
    assert 2 == count(database, "files")


def test_a_files_own_time_counts(database, retention, uploads):
    """`expires_after` may be shorter or longer than what is kept as a rule."""
    now = time.time()
    upload(database, uploads, "file-5", 1, expires=now - 1)
    upload(database, uploads, "file-6", 90, expires=now + 100)
    retention.sweep()
    assert [False, True] == [uploads.here(name) for name in ("file-5", "file-6")]


def test_a_deletion_that_was_broken_off_goes_on(database, retention):
    """The next router, or the next sweep, finds the mark."""
    ended(database, "young", 1)
    database.write(lambda c: jobs.begin_removal(c, "young", time.time()))
    database.write(lambda c: items.drop(c, "young", 1))
    job = database.read(lambda c: jobs.get(c, "young"))
    assert jobs.being_removed(job)
    retention.sweep()
    assert set() == kept(database)


def test_two_who_delete_at_once(connect, uploads):
    """Both may sweep: nothing breaks, nothing else goes."""
    one, two = connect(), connect()
    for number in range(20):
        ended(one, f"old-{number}", 31)
    ended(one, "young", 1)
    sweeps = [
        gevent.spawn(Retention(each, uploads, lambda: 30 * DAY).sweep)
        for each in (one, two)
    ]
    gevent.joinall(sweeps, timeout=30, raise_error=True)
    assert {"young"} == kept(one)
    assert 3 == count(two, "items")


def test_a_page_of_jobs_that_stay_hides_none_behind_it(database, retention):
    """Jobs that were made long ago and ended late are many; the next page counts."""
    made = time.time() - 90 * DAY
    ended(database, "late", 1, created=made)

    def many(connection: Connection) -> None:
        (row,) = connection.execute(JOBS.select()).mappings()
        copies = [{**row, "id": f"late-{number:03}"} for number in range(599)]
        connection.execute(JOBS.insert(), copies)

    database.write(many)
    ended(database, "old", 31, created=made + DAY)
    retention.sweep()
    assert 600 == count(database, "jobs")
    assert "old" not in kept(database)


def test_asked_for_twice(database, retention):
    """What is gone is gone."""
    ended(database, "young", 1)
    retention.remove_job("young")
    with pytest.raises(NotFoundError, match="no job 'young'"):
        retention.remove_job("young")
    retention.sweep()
    assert ("asked", 1) in retention.kept.deleted


def bulky(database, job: str, count: int = 300) -> None:
    """Keep items of 16 KiB each, whose job ended long ago."""
    filled(database, 0, a_job(job, created=1.0))
    made = [item(n) for n in range(count)]
    body = b"x" * 16_384

    def add(connection: Connection) -> None:
        items.add(connection, job, made, 0.0)
        connection.execute(text("UPDATE items SET body = :body"), {"body": body})
        before = [JobState.IN_PROGRESS]
        jobs.advance(connection, job, before, JobState.COMPLETED, 2.0)

    database.write(add)


def test_sqlite_gives_the_room_back(sqlite, uploads):
    """The file is smaller after the sweep than the items that it held."""
    database, path = sqlite
    bulky(database, "old")
    before = database.read(space.store_bytes)
    retention = Retention(database, uploads, lambda: 30 * DAY)
    retention.sweep()
    assert before > 300 * 16_384
    assert retention.kept.store_bytes < before / 2
    database.close()  # what is in the log goes into the file
    assert path.stat().st_size < before / 2


def test_a_file_of_an_older_router_learns_to_shrink(tmp_path, uploads):
    """It is written anew at the start, once, with all that it holds."""
    url = database_url("", tmp_path, None)
    engine = create_engine(url)
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    database = JobDatabase(url, migrate)
    database.open()
    try:
        assert 2 == database.read(
            lambda c: c.exec_driver_sql("PRAGMA auto_vacuum").scalar_one()
        )
        bulky(database, "old")
        Retention(database, uploads, lambda: DAY).sweep()
        assert database.read(space.store_bytes) < 2_000_000
    finally:
        database.close()


def test_what_is_kept_is_weighed(database, retention, uploads):
    """Bytes of the database and of uploads, for a gauge."""
    ended(database, "young", 1)
    upload(database, uploads, "file-1", 1)
    upload(database, uploads, "file-2", 1)
    retention.sweep()
    assert 6 == retention.kept.file_bytes
    assert retention.kept.store_bytes > 8192
