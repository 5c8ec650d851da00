"""What a real server of databases, and a pooler in front of it, have in common."""

from __future__ import annotations

import abc
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.harness.stopping import Stopping


class DatabaseServer(Stopping):
    """A child in a folder of its own, which is not pytest's: that one is closed."""

    def __init__(self, name: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"inferops-{name}-"))
        self._child: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def kill(self) -> None: ...

    @property
    def _stopped_by(self) -> signal.Signals:
        return signal.SIGKILL

    def check_running(self) -> None:
        assert self._child is not None
        assert self._child.poll() is None, (self._folder / "log").read_text()[-2000:]

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        self._end(self._stopped_by)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)
            self._child.wait(30)
