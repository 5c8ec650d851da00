"""The wall clock, which a test may shift: nobody sets a machine's clock for that.

`INFEROPS_CLOCK_FILE` names a file with the seconds to add. It is read each time,
so that a clock jumps while the router runs. Without the variable this is time.time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "INFEROPS_CLOCK_FILE"


def wall_clock(environ: Mapping[str, str]) -> Callable[[], float]:
    """Give the clock of the holds: unix seconds."""
    path = environ.get(VARIABLE)
    if not path:
        return time.time
    file = Path(path)
    return lambda: time.time() + _shift(file)


def _shift(file: Path) -> float:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return 0.0
