"""One launcher a run directory: a lock that ends with its holder, however that is."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import LaunchError


@contextlib.contextmanager
def hold(run: Path) -> Iterator[int | None]:
    """Hold the run directory; yields the holder's pid when somebody else does."""
    with _path(run).open("a+", encoding="ascii") as file:
        if not _take(file.fileno()):
            yield _read_pid(run)
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield None
        file.truncate(0)


def holder(run: Path) -> int | None:
    """Name the launcher that runs; None where there is none."""
    with _path(run).open("a", encoding="ascii") as file:
        return None if _take(file.fileno()) else _read_pid(run)


def holds(run: Path, pid: int) -> bool:
    """Tell whether this launcher has not ended: its name goes just before its lock."""
    with _path(run).open("a", encoding="ascii") as file:
        if _take(file.fileno()):
            return False
        return _path(run).read_text(encoding="ascii") in {"", str(pid)}


def _path(run: Path) -> Path:
    return run / "lock"


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(run: Path) -> int:
    text = _path(run).read_text(encoding="ascii")
    if not text:  # between its lock and its name, or between the name and the end
        raise LaunchError("another start or stop is just under way, try again")
    return int(text)
