"""Ctrl-C, SIGTERM and a closed terminal, all as one exception."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Exception):  # noqa: N818  control flow, like KeyboardInterrupt
    """Somebody wants the product to end."""


@contextlib.contextmanager
def until_stopped() -> Iterator[None]:
    """End the block quietly at the first signal; those after it are ignored."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in _NUMBERS:
            signal.signal(number, signal.SIG_IGN)
        raise Stop

    before = {number: signal.signal(number, stop) for number in _NUMBERS}
    try:
        yield
    except Stop:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
