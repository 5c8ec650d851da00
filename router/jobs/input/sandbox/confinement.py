"""Limits that the sandbox sets on itself before it reads an untrusted file."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from router.errors import TemplateError

_NICE = 10
_FILES = 64


class Confinement:
    """Limits memory to the program's own and so many bytes more."""

    def __init__(self, memory_bytes: int, cpu_seconds: int) -> None:
        self._memory_bytes = memory_bytes
        self._base = _address_space()
        os.nice(_NICE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
        if cpu_seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
        # If the machine runs out of memory, this process is killed, not the router.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        self._limit()

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Load a library in this block; its memory does not count."""
        before = _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        try:
            yield
        finally:
            self._base += max(0, _address_space() - before)
            self._limit()

    def _limit(self) -> None:
        limit = self._base + self._memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TemplateError inside the block once it has used more processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def heed_deadlines() -> None:
    """Install the handler for `deadline`; once for the process."""
    signal.signal(signal.SIGPROF, _too_slow)


def _too_slow(_number: int, _frame: object) -> None:
    raise TemplateError("the prompt takes too long to write; use fewer filters")


def _address_space() -> int:
    """Return the size of this process' address space in bytes."""
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        return int(pages) * resource.getpagesize()
    return 2**30  # not Linux: nothing is known, a GiB is enough
