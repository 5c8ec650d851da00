"""Runs the router, and a new one in its place once the code is another.

`python -m launcher.successors LINK` runs the release that LINK names (releases.py),
and its successor as soon as LINK names another one. Without LINK it runs the checkout,
and looks at it again at SIGHUP.

The new router takes the listening sockets over when it is ready; the one before it
finishes its streams, however long they take, and ends by itself (docs/upgrade.md).
Where the new one does not start, the old one serves on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from launcher import releases

_ROUTER = ("-m", "router.server.take_over")
_PACKAGES = ("alerting", "launcher", "router")
_LOOK_SECONDS = 0.5
_SETTLE_SECONDS = 10.0  # before another one follows a router that has just begun
_AGAIN_SECONDS = 5.0  # before the first try again; each wait is twice the one before
_LONGEST_SECONDS = 60.0


class Child(Protocol):
    """What is used of `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def wait(self) -> int: ...


@dataclass(slots=True)
class Successors:
    """The routers that run: the newest one serves, those before it finish.

    code:  names the code that ought to run
    start: runs it
    """

    code: Callable[[], str]
    start: Callable[[str], Child]
    say: Callable[[str], None]
    running: list[Child] = field(default_factory=list)
    _code: str = ""
    _failed: bool = False
    _not_before: float = 0.0
    _wait: float = _AGAIN_SECONDS

    def turn(self, now: float) -> int | None:
        """Start what ought to run; return the last one's status once all have ended."""
        status = self.running[-1].poll() if self.running else None
        self.running = [each for each in self.running if each.poll() is None]
        if status is not None and not self.running:
            return status
        if status is not None:
            self.say(f"the new router ended {status}, the one before it serves on")
            self._failed = True
            self._not_before = now + self._wait
            self._wait = min(2 * self._wait, _LONGEST_SECONDS)
        code = self.code()
        new, due = code != self._code, now >= self._not_before
        if (new and self._failed) or ((new or self._failed) and due):
            self._begin(code, now, new=new)
        return None

    def _begin(self, code: str, now: float, *, new: bool) -> None:
        if new:
            self._wait = _AGAIN_SECONDS
        self.running.append(self.start(code))
        self._code, self._failed = code, False
        self._not_before = now + _SETTLE_SECONDS
        if len(self.running) > 1:
            self.say(f"a new router takes over: {code}")

    def stop(self) -> None:
        """Have all end their streams within their grace, and wait for it."""
        for each in self.running:
            each.terminate()
        for each in self.running:
            each.wait()


def _start_release(link: Path, code: str) -> Child:
    """Run a release by its own name: what it imports later is its own too."""
    folder = link.parent / code
    app, programs = folder / "app", folder / "venv" / "bin"
    own = {"PYTHONPATH": str(app), "PATH": f"{programs}:{os.environ['PATH']}"}
    argv = [str(programs / "python"), *_ROUTER]
    return subprocess.Popen(argv, cwd=app, env={**os.environ, **own})


def _checkout() -> str:
    root = Path(__file__).resolve().parents[1]
    code = (path for name in _PACKAGES for path in (root / name).rglob("*.py"))
    return releases.digest(code, root)


def _of_release(link: Path) -> tuple[Callable[[], str], Callable[[str], Child]]:
    return lambda: str(link.readlink()), lambda code: _start_release(link, code)


def _of_checkout() -> tuple[Callable[[], str], Callable[[str], Child]]:
    current = _checkout()

    def look(*_: object) -> None:
        nonlocal current
        current = _checkout()

    signal.signal(signal.SIGHUP, look)
    argv = [sys.executable, *_ROUTER]
    return lambda: current, lambda _: subprocess.Popen(argv)


def main(argv: Sequence[str]) -> int:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    code, start = _of_release(Path(argv[0])) if argv else _of_checkout()
    routers = Successors(code, start, lambda text: print(f"router: {text}", flush=True))
    while not stopped.wait(_LOOK_SECONDS):
        status = routers.turn(time.monotonic())
        if status is not None:
            return status
    routers.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
