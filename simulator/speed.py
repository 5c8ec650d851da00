"""How fast streams run that decode together; pure.

S(k) is the total speed of k streams over that of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise


class Scaling(StrEnum):
    """Which S(k) the nodes follow."""

    MEASURED = "measured"  # a real Ollama on an H200, end to end
    KERNEL = "kernel"  # llama.cpp's kernels on an RTX 3090, no Ollama around them
    FLAT = "flat"  # streams share the speed of one
    LINEAR = "linear"  # streams do not feel each other: for overhead benchmarks


_POINTS: Mapping[Scaling, tuple[tuple[int, float], ...]] = {
    # 5 and 7 lie between their neighbours: not measured.
    Scaling.MEASURED: (
        (1, 1.0),
        (2, 1.21),
        (3, 1.54),
        (4, 1.24),
        (6, 1.55),
        (8, 1.47),
        (12, 1.52),
        (16, 1.65),
    ),
    Scaling.KERNEL: (
        (1, 1.0),
        (2, 1.79),
        (3, 2.5),
        (4, 3.0),
        (6, 3.46),
        (8, 3.73),
        (16, 5.82),
        (32, 7.62),
    ),
    Scaling.FLAT: ((1, 1.0),),
}


def total_speed(streams: int, scaling: Scaling = Scaling.MEASURED) -> float:
    """S(k), linear between the points, level after the last one."""
    if streams <= 0:
        return 0.0
    if scaling is Scaling.LINEAR:
        return float(streams)
    points = _POINTS[scaling]
    for (low, start), (high, end) in pairwise(points):
        if low <= streams <= high:
            return start + (end - start) * (streams - low) / (high - low)
    return points[-1][1]
