"""A real PgBouncer in front of a real PostgreSQL, as Debian's package configures it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.database_server import DatabaseServer
from tests.harness.poll import until
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres, postgres_folder

_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


def pgbouncer_program() -> str | None:
    """Find the program; None where it is missing (Debian's package `pgbouncer`)."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_PLACES])
    return shutil.which("pgbouncer", path=path)


@contextlib.contextmanager
def postgres_to_pool() -> Iterator[Postgres]:
    """A PostgreSQL for a pooler; skips the test where either is missing."""
    if postgres_folder() is None:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    if pgbouncer_program() is None:
        pytest.skip("no pgbouncer on PATH or in /usr/sbin")
    with Postgres() as cluster:
        yield cluster


class PgBouncer(DatabaseServer):
    """One pooler; `url` is what `jobs.database` takes.

    settings: of its configuration, such as `pool_mode`
    """

    def __init__(self, postgres: Postgres, **settings: object) -> None:
        self._postgres = postgres
        super().__init__("pgbouncer")
        self.port = free_port()
        self._settings = settings
        self._configure()
        if postgres.user:
            shutil.chown(self._folder, postgres.user)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://inferops@127.0.0.1:{self.port}/{database}"

    def _configure(self) -> None:
        users = self._folder / "users.txt"
        users.write_text('"inferops" ""\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "admin_users": "inferops",
            "logfile": self._folder / "log",
            **self._settings,
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._postgres.port}\n"
            f"[pgbouncer]\n{text}"
        )

    def start(self) -> None:
        program = pgbouncer_program()
        assert program is not None, "no pgbouncer"
        self._child = subprocess.Popen(
            [program, "-q", str(self._folder / "pgbouncer.ini")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._postgres.user,
            cwd=self._folder,
            start_new_session=True,
        )
        until(self._answers, "PgBouncer answers", seconds=30)

    def _answers(self) -> bool:
        self.check_running()
        with contextlib.suppress(psycopg.OperationalError):
            self.admin("SHOW VERSION")
            return True
        return False

    def admin(self, command: str) -> None:
        """Run a command of its console, such as PAUSE or RESUME."""
        with psycopg.connect(
            self.url("pgbouncer"), autocommit=True, connect_timeout=5
        ) as console:
            console.execute(command.encode())

    def set(self, **settings: object) -> None:
        """Change its configuration, and start it anew with it."""
        self._settings = {**self._settings, **settings}
        self._configure()
        self.restart()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it hang: connections stay, nobody answers."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)
