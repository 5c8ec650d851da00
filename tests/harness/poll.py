"""Wait for a state, with a deadline; nothing sleeps in the hope of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def until(
    check: Callable[[], T | Literal[False] | None],
    what: str,
    *,
    seconds: float = 20,
    every: float = 0.02,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the first truthy answer of `check`.

    A check that raises OSError (requests' errors are of that kind) has not
    answered yet. Raises AssertionError that names `what`, the last answer and
    the last error once `seconds` are over. Greenlets of the same thread run on
    with `sleep=gevent.sleep`.
    """
    deadline = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            last = check()
        except OSError as error:
            last = error
        else:
            if last:
                return last
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what}; last: {last!r}")
        sleep(every)
