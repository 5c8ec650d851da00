"""Starts a sandbox, exchanges messages with it, and tells why it died."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent import monkey
from gevent import os as gevent_os

from router.errors import InferOpsError
from router.jobs.input.sandbox.frames import OUT_OF_MEMORY, Frame, Unpacker, packed

_PROGRAM = "from router.jobs.input.sandbox.child import main; main()"
_ROOT = Path(__file__).resolve().parents[4]
_PIECE_BYTES = 256 * 1024
_REAP_SECONDS = 5.0
# Signals that stop the router reach its process group. A sandbox that died of one would
# fail its job; it ends when its pipes are closed, or is killed.
_NOT_FOR_IT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# Nothing else of the environment: secrets may stand in it.
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONTZPATH", "LD_LIBRARY_PATH")
# gevent's own would wait for the child by a signal handler of the whole process.
_spawn = monkey.get_original("os", "posix_spawn")
_wait4 = monkey.get_original("os", "wait4")


class SandboxError(InferOpsError):
    """A sandbox died or took too long; the text says why."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """memory_bytes: beside the program's own; cpu_seconds: 0 for no limit."""

    memory_bytes: int
    cpu_seconds: int = 0


class Sandbox:
    """One process; for one greenlet that sends, and one that receives."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._unpacker = Unpacker()
        self._frames: deque[Frame] = deque()
        self._exit: int | None = None
        self.pid, self._to, self._from = _start(limits)

    def send(self, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Raises SandboxError where nobody reads any more."""
        data = memoryview(packed(head, body))
        try:
            while data:
                data = data[gevent_os.nb_write(self._to, data) :]
        except OSError:
            raise self.died() from None

    def receive(self, seconds: float) -> Frame:
        """Wait for the next message. Raises SandboxError.

        seconds: the longest time without a byte
        """
        while not self._frames:
            try:
                with gevent.Timeout(seconds):
                    data = gevent_os.nb_read(self._from, _PIECE_BYTES)
            except gevent.Timeout:
                self.end()
                raise SandboxError(f"it took more than {seconds:g} s") from None
            if not data:
                raise self.died()
            self._frames.extend(self._unpacker.feed(data))
        head, body = self._frames.popleft()
        if "bug" in head:
            self.end()
            raise RuntimeError(f"the sandbox has a fault: {head['bug']}")
        return head, body

    def died(self) -> SandboxError:
        """Reap the process; return an error that says why it died."""
        code = self.end(wait_seconds=_REAP_SECONDS)
        mebibytes = self._limits.memory_bytes // 2**20
        if code in {OUT_OF_MEMORY, -signal.SIGKILL}:
            return SandboxError(
                f"it does not fit into {mebibytes} MiB of memory"
                " (jobs.reader_memory_bytes)"
            )
        if code == -signal.SIGXCPU:
            seconds = self._limits.cpu_seconds
            return SandboxError(f"it took more than {seconds} s of processor time")
        return SandboxError(
            f"it ended the process reading it: it is damaged, or does not fit into"
            f" {mebibytes} MiB of memory (jobs.reader_memory_bytes)"
        )

    def end(self, wait_seconds: float = 0.0) -> int | None:
        """Kill it, unless it ends by itself within the wait; return its exit code."""
        if self._exit is not None:
            return self._exit
        for each in (self._to, self._from):
            with contextlib.suppress(OSError):
                os.close(each)
        deadline = gevent.Timeout.start_new(wait_seconds) if wait_seconds else None
        try:
            self._exit = self._reaped() if wait_seconds else None
        except gevent.Timeout as error:
            if error is not deadline:
                raise
        finally:
            if deadline:
                deadline.close()
        if self._exit is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._exit = self._reaped()
        return self._exit

    def _reaped(self) -> int:
        """Wait for its end without blocking the event loop."""
        while True:
            try:
                pid, status, _ = _wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                return 0
            if pid:
                return os.waitstatus_to_exitcode(status)
            gevent.sleep(0.002)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _start(limits: SandboxLimits) -> tuple[int, int, int]:
    """Start the process; returns its id and our ends of both pipes."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    nothing = os.open(os.devnull, os.O_WRONLY)
    given = json.dumps([limits.memory_bytes, limits.cpu_seconds])
    try:
        pid: int = _spawn(
            sys.executable,
            [sys.executable, "-c", _PROGRAM, given],
            {
                **{name: os.environ[name] for name in _KEPT if name in os.environ},
                "PYTHONPATH": str(_ROOT),
                # Arenas and pools of other allocators reserve much that is not used.
                "MALLOC_ARENA_MAX": "1",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                "OMP_NUM_THREADS": "1",
            },
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs_in, 0),
                (os.POSIX_SPAWN_DUP2, theirs_out, 1),
                (os.POSIX_SPAWN_DUP2, nothing, 2),
            ],
            setsigmask=_NOT_FOR_IT,
        )
    except BaseException:
        os.close(ours_in)
        os.close(ours_out)
        raise
    finally:
        for each in (theirs_in, theirs_out, nothing):
            os.close(each)
    for each in (ours_in, ours_out):
        gevent_os.make_nonblocking(each)
    return pid, ours_out, ours_in
