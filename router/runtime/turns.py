"""Long work in the event loop, in turns with everything else that is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import gevent

T = TypeVar("T")

_SECONDS = 0.01


def in_turns(items: Iterable[T], seconds: float = _SECONDS) -> Iterator[T]:
    """Yield the items, and let other greenlets run after each so many seconds.

    What is iterated may change meanwhile: of what others write to, pass a copy.
    """
    until = time.monotonic() + seconds
    for item in items:
        yield item
        if time.monotonic() >= until:
            gevent.sleep(0)
            until = time.monotonic() + seconds
