"""Writes the log from a thread of its own: nobody waits for who reads it, or does not.

A pipe that nobody empties takes 64 KiB and then holds whoever writes on. So lines are
put into a bounded queue, and what has no room there is dropped and counted. The thread
is a native one, also under gevent's patches.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from router.logs.redaction import plain

_STDERR = 2
_MOST_LINES = 8192
_MOST_LINE_BYTES = 16_384
_MOST_AT_ONCE = 256  # lines in one write
# Lines of one moment are one write, and the thread takes the interpreter less often.
_GATHER_SECONDS = 0.05
_RETRY_SECONDS = 0.05
_FLUSH_SECONDS = 1.0


class LogWriter:
    """Writes whole lines to a file descriptor; one for the process.

    dropped: lines that nobody will read
    on_drop_end: told, in the thread, how many were dropped when lines go out again
    """

    def __init__(self, descriptor: int = _STDERR) -> None:
        self._descriptor = descriptor
        self.dropped = 0
        self.on_drop_end: Callable[[int], object] = lambda _count: None
        self._reported = 0
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def __call__(self, line: bytes) -> None:
        """Take a line; never waits."""
        if len(self._lines) >= _MOST_LINES:
            self.dropped += 1
            return
        if len(line) > _MOST_LINE_BYTES:
            line = line[: _MOST_LINE_BYTES - 4] + b"...\n"
        self._lines.append(line)
        if not self._started:
            self._start()
        if self._wake.locked():
            with contextlib.suppress(RuntimeError):  # another thread was quicker
                self._wake.release()

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Wait until all is written, for so long; says whether it is."""
        sleep, deadline = _native("time", "sleep"), time.monotonic() + seconds
        while self._lines or self._writing:
            if time.monotonic() > deadline:
                return False
            sleep(0.002)
        return True

    def _reset(self) -> None:
        """Begin anew, as in a child: the thread and its lines are the parent's."""
        self._lines: deque[bytes] = deque()
        self._started = self._writing = False
        self._wake = _native("_thread", "allocate_lock")()
        self._wake.acquire()

    def _start(self) -> None:
        self._started = True
        atexit.register(self.flush)
        _native("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        sleep = _native("time", "sleep")
        while True:
            self._wake.acquire()
            sleep(_GATHER_SECONDS)
            while self._lines:
                self._writing = True
                lines = [
                    self._lines.popleft()
                    for _ in range(min(len(self._lines), _MOST_AT_ONCE))
                ]
                self._write(b"".join(lines), len(lines), sleep)
            self._writing = False
            if self.dropped > self._reported:
                count, self._reported = self.dropped - self._reported, self.dropped
                self.on_drop_end(count)

    def _write(self, data: bytes, count: int, sleep: Callable[[float], Any]) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # somebody else has made it so
                    sleep(_RETRY_SECONDS)
        except OSError:  # its reader is gone, or its disk is full
            self.dropped += count
            self._reported += count


def _native(module: str, name: str) -> Any:
    """Return what gevent's patches have replaced, where they have."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original(module, name)
    return getattr({"_thread": _thread, "time": time}[module], name)


class LineStream(io.TextIOBase):
    """What stands in for `sys.stderr`: tracebacks and warnings go the same way."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self._write = write
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        whole, end, rest = (self._rest + text).rpartition("\n")
        if end:
            self._write(f"{plain(whole)}\n".encode())
        self._rest = rest
        return len(text)
