"""PostgreSQL behind PgBouncer: whatever happens to either, a call works or says why."""

from __future__ import annotations

from unittest.mock import Mock

import gevent
import psycopg
import pytest

from router.jobs.store import items, jobs
from router.jobs.store.database import (
    JobDatabase,
    StoreError,
    as_request_error,
    database_url,
)
from router.jobs.store.schema import migrate
from tests.harness.pgbouncer import PgBouncer, postgres_to_pool
from tests.harness.poll import until
from tests.router.jobs.store.stage import JOB, filled


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL of its own: it is restarted."""
    with postgres_to_pool() as cluster:
        yield cluster


@pytest.fixture
def behind(server, tmp_path):
    """Start a pooler with settings; returns it and a database through it."""
    made = []

    def started(*, open_: bool = True, **settings: object):
        pooler = PgBouncer(server, **settings)
        made.append(pooler.stop)
        url = database_url(
            pooler.url(server.fresh().rpartition("/")[2]), tmp_path, None
        )
        database = JobDatabase(url, migrate, silent_seconds=1.5)
        made.append(database.close)
        if open_:
            database.open()
        return pooler, database

    yield started
    for end in reversed(made):
        end()


def works(database):
    """Whether a call that writes is answered."""
    try:
        database.write(lambda c: jobs.note_rows(c, JOB, 7, []))
    except StoreError:
        return False
    return True


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_calls_work_in_either_mode(behind, mode):
    """As Debian's package configures it but for the mode."""
    _, database = behind(pool_mode=mode)
    filled(database, 50)
    for _ in range(20):  # a driver prepares what it sees often
        assert 50 == database.read(lambda c: items.counts(c, JOB))[0].waiting


def test_statement_mode_is_told_of_by_its_name(behind):
    """It allows no transactions; the client hears what must be changed."""
    _, database = behind(open_=False, pool_mode="statement")
    with pytest.raises(StoreError) as error:
        database.open()
    assert "pool_mode must be 'transaction' or 'session'" in str(error.value)
    refused = as_request_error(error.value)
    assert 503 == refused.status
    assert refused.message == (
        "the job database is behind a pooler whose pool_mode must be 'transaction' or"
        " 'session', try again soon"
    )


def test_limits_hold_for_each_transaction(behind):
    """And only for it: another client of the pooler has its own."""
    pooler, database = behind(pool_mode="transaction", default_pool_size=1)

    def limits(connection):
        names = ("statement_timeout", "lock_timeout")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert ["10s", "5s"] == database.read(limits)
    with psycopg.connect(
        pooler.url(database.url.database), autocommit=True, prepare_threshold=None
    ) as other:
        assert [("0",)] == other.execute("SHOW statement_timeout").fetchall()


@pytest.mark.parametrize(
    "settings",
    [
        {"client_idle_timeout": 1},
        {"server_idle_timeout": 1},
        pytest.param({"server_lifetime": 1}, marks=pytest.mark.long),
        pytest.param({"idle_transaction_timeout": 1}, marks=pytest.mark.long),
        {"max_prepared_statements": 0, "server_reset_query_always": 1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_an_idle_connection_that_was_closed(behind, settings):
    """By either side: the next call opens another, nobody sees it."""
    settings = {k: v for k, v in settings.items() if k != "max_prepared_statements"}
    _, database = behind(pool_mode="transaction", **settings)
    filled(database, 1)
    for _ in range(2):
        gevent.sleep(2.2)  # longer than it may be idle: that is what is tested
        assert works(database)


def test_a_pooler_that_is_restarted(behind):
    """The call that met it fails at most; the same call is repeated."""
    pooler, database = behind(pool_mode="transaction")
    filled(database, 1)
    for _ in range(3):
        pooler.restart()
        until(lambda: works(database), "it works again")
    pooler.kill()
    with pytest.raises(StoreError):
        database.read(lambda c: jobs.get(c, JOB))
    pooler.start()
    until(lambda: works(database), "it works again")


def test_a_server_that_is_restarted_behind_it(behind, server):
    """The pooler stays; it reconnects by itself."""
    _, database = behind(pool_mode="transaction", server_login_retry=1)
    filled(database, 1)
    server.restart()
    until(lambda: works(database), "it works again", seconds=30)


def test_a_pooler_that_is_paused(behind):
    """It keeps its clients waiting: the connection is cut, others are told why."""
    pooler, database = behind(pool_mode="transaction")
    filled(database, 1)
    pooler.admin("PAUSE")
    with pytest.raises(StoreError, match="nothing came any more"):
        database.read(lambda c: jobs.get(c, JOB))
    assert "nothing came any more" in database.fault
    pooler.admin("RESUME")
    until(lambda: works(database), "it works again")
    assert database.fault is None


def test_a_pooler_that_hangs(behind):
    """It holds its connections and answers nobody, as where a machine is frozen."""
    pooler, database = behind(pool_mode="transaction")
    filled(database, 1)
    pooler.freeze()
    try:
        with pytest.raises(StoreError):
            database.read(lambda c: jobs.get(c, JOB))
        with pytest.raises(StoreError):  # nor is a new connection taken
            database.read(lambda c: jobs.get(c, JOB))
    finally:
        pooler.thaw()
    until(lambda: works(database), "it works again")


def test_a_pooler_without_a_free_server(behind):
    """It says so after a while; the client hears why."""
    pooler, database = behind(
        pool_mode="transaction", default_pool_size=1, query_wait_timeout=1
    )
    filled(database, 1)
    with psycopg.connect(pooler.url(database.url.database)) as other:
        other.execute("SELECT 1")  # a transaction that stays open has the server
        with pytest.raises(StoreError) as error:
            database.write(lambda c: jobs.note_rows(c, JOB, 7, []))
        assert "has no server free" in error.value.why
    until(lambda: works(database), "it works again")


def test_a_pooler_that_is_full(behind):
    """One more client is refused, and told so."""
    pooler, database = behind(pool_mode="transaction", max_client_conn=1)
    filled(database, 1)
    database.close()
    with psycopg.connect(pooler.url(database.url.database), autocommit=True):
        again = JobDatabase(database.url, migrate)
        with pytest.raises(StoreError) as error:
            again.open()
        again.close()
    assert "has no connection free" == error.value.why


def test_many_calls_do_not_each_wait_for_a_database_that_is_gone(behind, monkeypatch):
    """One finds out; the others of its moment are told the same."""
    pooler, database = behind(pool_mode="transaction")
    filled(database, 1)
    pooler.kill()
    dialect = database._engine.dialect
    connect = Mock(wraps=dialect.connect)
    monkeypatch.setattr(dialect, "connect", connect)
    calls = [gevent.spawn(works, database) for _ in range(60)]
    gevent.joinall(calls)
    assert not any(each.value for each in calls)
    assert 0 < connect.call_count < 10
