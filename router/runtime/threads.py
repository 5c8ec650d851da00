"""Pools of native threads, apart by what may hold them up; each with its bounds.

gevent has one pool of ten threads for everything. Ten files that take minutes to read
filled it, and control passes, name look-ups and the disk stood still. Here nothing of
one kind waits for another kind, nothing waits without end, and what has no room is
refused at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import gevent
from gevent.threadpool import ThreadPool

from router.errors import BusyError

T = TypeVar("T")

_RETRY_AFTER_SECONDS = 5.0


class Pool:
    """So many threads of one kind, made when they are needed.

    what:    what runs here, as a person would say it
    waiting: calls that may wait for a thread; one more is refused
    seconds: longest time of a call, waiting included; None: without end
    """

    def __init__(
        self, what: str, threads: int, *, waiting: int, seconds: float | None
    ) -> None:
        self._what = what
        self._threads = threads
        self._most = threads + waiting
        self._seconds = seconds
        self._calls = 0
        self._pool: ThreadPool | None = None

    def __call__(self, call: Callable[[], T]) -> T:
        """Run it in a thread; raises what it raises, and BusyError.

        A call that is late goes on in its thread, and its result is dropped. From
        another native thread it is run in place.
        """
        pool = self._opened()
        if gevent.get_hub() is not pool.hub:
            return call()
        if self._calls >= self._most:
            raise self._busy(f"{self._calls} of them are under way")
        self._calls += 1
        try:
            late = self._busy(f"not done within {self._seconds} s")
            with gevent.Timeout(self._seconds, late):
                answer = cast("T | _Raised", pool.spawn(_caught, call).get())
        finally:
            self._calls -= 1
        if isinstance(answer, _Raised):
            raise answer.error
        return answer

    def close(self) -> None:
        """Let go of the threads; for a pool of one owner."""
        if self._pool is not None:
            self._pool.kill()

    def _opened(self) -> ThreadPool:
        if self._pool is None:
            self._pool = ThreadPool(self._threads)
        return self._pool

    def _busy(self, why: str) -> BusyError:
        return BusyError(
            f"{self._what}: {why}", retry_after_seconds=_RETRY_AFTER_SECONDS
        )


class _Raised:
    """An error as a value: gevent prints what a pool's thread raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _caught(call: Callable[[], T]) -> T | _Raised:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - raised again by who asked
        return _Raised(error)


CONTROL = Pool("control", 2, waiting=8, seconds=30)
DISK = Pool("the router's disk", 8, waiting=256, seconds=30)
FILES = Pool("configuration files", 1, waiting=8, seconds=60)
JOBS = Pool("reducing of jobs", 3, waiting=10_000, seconds=None)
