"""How many examples a slow property is tried with: a third, unless there is time."""

from __future__ import annotations

import os


def examples(most: int) -> int:
    """Return `most` in `make test-long`, a third of it otherwise."""
    return most if "INFEROPS_LONG" in os.environ else max(1, most // 3)
