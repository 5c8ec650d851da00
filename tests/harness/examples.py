"""How many examples a slow property is tried with: a third, unless there is time."""

from __future__ import annotations

from tests.harness.cases import LONG


def examples(most: int) -> int:
    """Return `most` in `make test-long`, a third of it otherwise."""
    return most if LONG else max(1, most // 3)
