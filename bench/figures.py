"""Figures from many values, and the tables in which they are shown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the middle, the 99th percentile and the largest, in milliseconds."""
    if not seconds:
        return dict.fromkeys(("p50", "p99", "largest"), float("nan"))
    ordered = sorted(seconds)
    return {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
        for name, share in (("p50", 0.5), ("p99", 0.99), ("largest", 1.0))
    }


def median(runs: Sequence[dict], *keys: str) -> float:
    return statistics.median(values(runs, *keys))


def values(runs: Sequence[dict], *keys: str) -> list[float]:
    """Return one figure of each run; several keys lead down into it."""
    found = []
    for run in runs:
        value = run
        for key in keys:
            value = value[key]
        found.append(float(value))  # type: ignore[arg-type]
    return found


def spread(numbers: Sequence[float], form: str = ".1f") -> str:
    """Write a median with its range."""
    middle = statistics.median(numbers)
    return f"{middle:{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows under a head, the first column to the left, the rest to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
