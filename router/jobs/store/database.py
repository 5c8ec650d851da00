"""Runs all database calls in one native thread, in batched commits.

The event loop never waits for a disk. Calls that arrive during a commit are gathered
into the next one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import gevent
from gevent.event import AsyncResult, Event
from gevent.threadpool import ThreadPool
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from router.errors import (
    ConfigError,
    DiskFullError,
    InferOpsError,
    StateError,
    UnavailableError,
)
from router.jobs.store.link import Link
from router.jobs.store.space import make_shrinkable

T = TypeVar("T")
Call = Callable[[Connection], T]

_BUSY_SECONDS = 1.0
_MOST_WAITING = 4096
_MOST_IN_BATCH = 256
# From a call until it is in the thread; in the thread the database's own limits hold.
_QUEUE_SECONDS = 10.0
_STATEMENT_SECONDS = 10
_LOCK_SECONDS = 5
# Without a statement ended for so long, its connection is cut: a pooler that waits for
# a server, or hangs, keeps no limit of the server's.
_SILENT_SECONDS = 20.0
_WATCH_SECONDS = 1.0
_LOCK_KEY = 0x1FE705  # of the order of results in PostgreSQL; any number of our own


# The server's own limits hold for one transaction: in front of it may be a pooler,
# which takes no settings when a client connects.
_BEGIN_POSTGRESQL = (
    f"BEGIN; SET LOCAL statement_timeout = {_STATEMENT_SECONDS * 1000};"
    f" SET LOCAL lock_timeout = {_LOCK_SECONDS * 1000}"
)
_FULL = ("disk is full", "No space left", "could not extend file")
# What PostgreSQL and PgBouncer say, and what it means.
_WHY = (
    (
        "not allowed in statement pooling mode",
        "is behind a pooler whose pool_mode must be 'transaction' or 'session'",
    ),
    ("query_wait_timeout", "is behind a pooler that has no server free"),
    ("no more connections allowed", "has no connection free"),
    ("too many clients", "has no connection free"),
    ("too many connections", "has no connection free"),
    ("remaining connection slots", "has no connection free"),
    ("read-only transaction", "is read-only: a standby answers"),
    (
        "unsupported startup parameter",
        "is behind a pooler that refuses a parameter of jobs.database",
    ),
    ("password authentication failed", "refuses the login"),
    ("no such user", "refuses the login"),
    ("pg_hba.conf", "refuses the login"),
    ("does not exist", "lacks the database, a role or a table"),
    ("starting up", "is starting"),
    ("shutting down", "is shutting down"),
    ("statement timeout", "took too long"),
    ("lock timeout", "is locked by somebody else"),
    ("database is locked", "is locked by somebody else"),
    ("permission denied", "denies the permission"),
)


class StoreError(StateError):
    """The job database failed; the same call may be repeated.

    why: the cause in words that anybody may read: no names, no addresses
    """

    def __init__(self, message: str, why: str = "does not answer") -> None:
        super().__init__(message)
        self.why = why


class StoreFullError(StoreError):
    """The database's disk is full."""


def as_request_error(error: StoreError) -> DiskFullError | UnavailableError:
    """Return the error as a client sees it."""
    if isinstance(error, StoreFullError):
        return DiskFullError("the router's disk is full; nothing of this was kept")
    return UnavailableError(
        f"the job database {error.why}, try again soon", retry_after_seconds=5
    )


@dataclass(slots=True)
class _Asked:
    call: Call[Any]
    reads: bool
    answer: AsyncResult[Any] = field(default_factory=AsyncResult)


class JobDatabase:
    """Runs each call in a transaction, on the one database thread.

    silent_seconds: time without an answer after which a connection is cut
    fault:     why the last batch failed; None if it did not
    committed: called after each batch with its seconds and number of calls
    """

    def __init__(
        self,
        url: URL,
        migrate: Callable[[Connection], None],
        silent_seconds: float = _SILENT_SECONDS,
    ) -> None:
        self.url = url
        self._silent_seconds = silent_seconds
        self.sqlite = url.get_backend_name() == "sqlite"
        self._migrate = migrate
        self._engine = _engine(url)
        self._connection: Connection | None = None
        self._asked: deque[_Asked] = deque()
        self._wake = Event()
        self._thread = ThreadPool(1)
        self._flusher = gevent.spawn(self._flush)
        self._link = Link(self._engine)
        self._closed = False
        self._migrated = False
        self.fault: str | None = None
        self.committed: Callable[[float, int], None] = lambda _seconds, _calls: None

    def open(self) -> None:
        """Connect and bring the tables up to date. Raises StoreError."""
        answer = self._in_thread(lambda: self._attempt(self._connected))
        if isinstance(answer, Exception):
            raise answer

    def read(self, call: Call[T]) -> T:
        """Run a call that only reads. Raises StoreError, and what the call raises."""
        return cast("T", self._run(_Asked(call, reads=True)))

    def write(self, call: Call[T]) -> T:
        """Run a call; its changes are on disk on return. Raises as `read` does."""
        return cast("T", self._run(_Asked(call, reads=False)))

    def close(self) -> None:
        """Finish the running batch, refuse the rest and disconnect."""
        self._closed = True
        self._flusher.kill()
        for asked in self._asked:
            asked.answer.set_exception(StoreError("the job database is closed"))
        self._asked.clear()
        self._in_thread(self._disconnect)
        self._thread.kill()

    def _run(self, asked: _Asked) -> Any:
        if self._closed:
            raise StoreError("the job database is closed")
        if len(self._asked) >= _MOST_WAITING:
            raise StoreError("too much waits for the job database")
        self._asked.append(asked)
        self._wake.set()
        try:
            return asked.answer.get(timeout=_QUEUE_SECONDS)
        except gevent.Timeout:
            with contextlib.suppress(ValueError):
                self._asked.remove(asked)
                raise StoreError("the job database is too slow") from None
            # It is being done: the database's own limits end it.
            return asked.answer.get()

    def _flush(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._asked:
                count = min(len(self._asked), _MOST_IN_BATCH)
                batch = [self._asked.popleft() for _ in range(count)]
                began = time.monotonic()
                answers = self._in_thread(partial(self._do_all, batch))
                self.committed(time.monotonic() - began, len(batch))
                for asked, answer in zip(batch, answers, strict=True):
                    if isinstance(answer, Exception):
                        asked.answer.set_exception(answer)
                    else:
                        asked.answer.set(answer)

    def _in_thread(self, call: Callable[[], T]) -> T:
        """Run a call in the thread; cut its connection if it no longer answers."""
        self._link.heard()
        running = self._thread.spawn(call)
        while not self.sqlite and not running.ready():
            with contextlib.suppress(gevent.Timeout):
                running.wait(_WATCH_SECONDS)
            if not running.ready() and self._link.silent_for(self._silent_seconds):
                self._link.cut()
        return cast("T", running.get())

    # In the thread

    def _do_all(self, batch: Sequence[_Asked]) -> list[Any]:
        """Run calls in one transaction; if that fails, each in its own."""
        answers = self._attempt(partial(self._transact, batch))
        if not isinstance(answers, Exception):
            return answers
        if len(batch) == 1:
            return [answers]
        done: list[Any] = []
        for each in batch:
            alone = self._attempt(partial(self._transact, [each]))
            if isinstance(alone, StoreError) and self._connection is None:
                answer = self._attempt(self._connected)
                if isinstance(answer, Exception):  # it is gone: nor would the others be
                    return [*done, *[answer] * (len(batch) - len(done))]
            done.append(alone if isinstance(alone, Exception) else alone[0])
        return done

    def _attempt(self, call: Callable[[], T]) -> T | Exception:
        """Return an error as a value: gevent prints what a pool's thread raises."""
        try:
            done = call()
        except InferOpsError as error:
            return error
        except (SQLAlchemyError, OSError) as error:
            self._disconnect()
            wrapped = _store_error(error, cut=self._link.was_cut)
            self.fault = str(wrapped)
            wrapped.__cause__ = error
            return wrapped
        except Exception as error:  # noqa: BLE001 - or the thread's only greenlet ends
            self._disconnect()
            return error
        self.fault = None
        return done

    def _transact(self, batch: Sequence[_Asked]) -> list[Any]:
        only_reads = all(asked.reads for asked in batch)
        connection = self._begun(only_reads=only_reads)
        with self._transaction(connection):
            if len(batch) == 1:
                return [batch[0].call(connection)]
            return [_apart(connection, asked.call) for asked in batch]

    def _begun(self, *, only_reads: bool) -> Connection:
        """Begin a transaction; reconnect if the connection broke while it was idle."""
        kept = self._connection is not None
        connection = self._connected()
        try:
            self._begin(connection, only_reads=only_reads)
        except DBAPIError as error:
            if not kept or not error.connection_invalidated:
                raise
            self._disconnect()
            connection = self._connected()
            self._begin(connection, only_reads=only_reads)
        return connection

    def _begin(self, connection: Connection, *, only_reads: bool) -> None:
        if not self.sqlite:
            connection.exec_driver_sql(_BEGIN_POSTGRESQL)
            return
        # IMMEDIATE: a lock that is asked for in mid-transaction cannot wait.
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        try:
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with contextlib.suppress(SQLAlchemyError):
                connection.exec_driver_sql("ROLLBACK")
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            try:
                if self.sqlite:
                    if not self._migrated:
                        make_shrinkable(connection)
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                    connection.exec_driver_sql("PRAGMA synchronous = FULL")
                if not self._migrated:
                    self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Connection) -> None:
        """Migrate the tables; two routers may start at one time."""
        self._begin(connection, only_reads=False)
        with self._transaction(connection):
            lock_order(connection)
            self._migrate(connection)
        self._migrated = True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()


def _apart(connection: Connection, call: Call[T]) -> T | Exception:
    """Run one call of a batch; if it refuses, undo it alone."""
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        answer = call(connection)
    except InferOpsError as error:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
        return error
    connection.exec_driver_sql("RELEASE SAVEPOINT one")
    return answer


def lock_order(connection: Connection) -> None:
    """Number results in the order of their commits, over all routers."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")


def _store_error(error: Exception, *, cut: bool = False) -> StoreError:
    """Word an error without its values: they are people's prompts."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    text = str(cause).strip().partition("\n")[0][:200]
    if any(sign in str(cause) for sign in _FULL):
        return StoreFullError(f"the job database's disk is full: {text}")
    if cut:
        text = "nothing came any more, the connection was cut"
    kind = "refuses" if isinstance(error, IntegrityError) else "fails"
    why = next((ours for theirs, ours in _WHY if theirs in str(cause)), "")
    reported = f"{text} ({why})" if why else text
    return StoreError(f"the job database {kind}: {reported}", why or "does not answer")


def database_url(text: str, folder: Path, password_file: Path | None) -> URL:
    """Return the database's URL: SQLite in `folder` if empty. Raises ConfigError."""
    if not text:
        return URL.create("sqlite", database=str(folder / "jobs.db"))
    try:
        url = make_url(text)
    except SQLAlchemyError:
        raise ConfigError("jobs.database: not a URL") from None
    if url.get_backend_name() != "postgresql":
        raise ConfigError(
            "jobs.database: must begin with postgresql://,"
            f" got {url.get_backend_name()!r}"
        )
    if url.password is not None:
        raise ConfigError("jobs.database: a password belongs into a file of its own")
    if password_file is not None:
        try:
            url = url.set(password=password_file.read_text().strip())
        except OSError as error:
            raise ConfigError(
                f"jobs.database_password_file: {error.strerror}, got"
                f" {str(password_file)!r}"
            ) from error
    return url.set(drivername="postgresql+psycopg")


def _engine(url: URL) -> Engine:
    arguments: dict[str, Any]
    if url.get_backend_name() == "sqlite":
        arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    else:
        # Read when psycopg is imported, below: it would wait through gevent's select,
        # in a thread that has no loop.
        os.environ.setdefault("PSYCOPG_WAIT_FUNC", "wait_c")
        # Nothing that outlives a transaction: a pooler gives each one another server.
        arguments = {
            "connect_timeout": 3,
            "tcp_user_timeout": _STATEMENT_SECONDS * 1000,
            "application_name": "inferops",
            "prepare_threshold": None,
        }
    # Transactions are begun and ended here: the drivers' own ways differ.
    return create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=arguments,
        hide_parameters=True,
    )
