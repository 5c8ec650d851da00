"""A real PostgreSQL on loopback, run as a user without rights; it refuses root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from tests.harness.database_server import DatabaseServer
from tests.harness.poll import until
from tests.harness.ports import free_port

_USERS = ("postgres", "nobody")


def postgres_folder() -> Path | None:
    """Find the newest release's programs; None where there are none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]),
    )
    return found[-1].parent if found else None


def _user() -> str | None:
    if os.getuid():
        return None  # whoever runs the tests is nobody special
    for name in _USERS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("no user without rights to run PostgreSQL as")


class Postgres(DatabaseServer):
    """One database cluster; `url` is what `jobs.database` takes."""

    def __init__(self) -> None:
        programs = postgres_folder()
        assert programs is not None, "no PostgreSQL under /usr/lib/postgresql"
        self._programs = programs
        self.user = _user()
        super().__init__("postgres")
        self.port = free_port()
        self.url = f"postgresql://inferops@127.0.0.1:{self.port}/postgres"
        self._made = 0
        try:
            if self.user:
                shutil.chown(self._folder, self.user)
            self._run("initdb", "-D", self._data, "-A", "trust", "-U", "inferops")
            self.start()
        except BaseException:
            self.stop()
            raise

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            capture_output=True,
            timeout=120,
            user=self.user,
            cwd=self._folder,
        )

    def fresh(self) -> str:
        """Make an empty database; returns what `jobs.database` takes."""
        self._made += 1
        name = f"jobs{self._made}"
        place = ("-h", "127.0.0.1", "-p", self.port, "-U", "inferops")
        self._run("createdb", *place, name)
        return f"postgresql://inferops@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        argv = [self._programs / "postgres", "-D", self._data, "-p", self.port]
        argv += ["-h", "127.0.0.1", "-k", self._folder, "-F"]  # -F: no fsync
        log = self._folder / "log"
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [str(each) for each in argv],
                stdout=out,
                stderr=subprocess.STDOUT,
                user=self.user,
                cwd=self._folder,
                start_new_session=True,
            )
        until(self._answers, "PostgreSQL answers", seconds=60)

    def _answers(self) -> bool:
        self.check_running()
        ready = [self._programs / "pg_isready", "-h", "127.0.0.1", "-p", self.port]
        done = subprocess.run(
            [str(each) for each in ready], capture_output=True, check=False, timeout=10
        )
        return done.returncode == 0

    def kill(self) -> None:
        """End it as the power going out does: its clients notice, it recovers."""
        self._end(signal.SIGQUIT)  # "immediate": no checkpoint

    @property
    def _stopped_by(self) -> signal.Signals:
        return signal.SIGINT
