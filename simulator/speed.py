"""How fast streams run that decode together; pure.

S(k) is the total speed of k streams over that of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise


class Scaling(StrEnum):
    """Which S(k) the nodes follow.

    `measured` is accepted for one more release and means `cpu-starved`, as it did.
    """

    H200 = "h200-2026-11"  # a real Ollama on H200s, measured on three machines
    CPU_STARVED = "cpu-starved"  # the same on a machine short of CPU
    KERNEL = "kernel"  # llama.cpp's kernels on an RTX 3090, no Ollama around them
    OLLAMA = "ollama"  # published for Ollama end to end: S(4) = 1.42
    FLAT = "flat"  # streams share the speed of one
    LINEAR = "linear"  # streams do not feel each other: for overhead benchmarks

    @classmethod
    def _missing_(cls, value: object) -> Scaling | None:
        return cls.CPU_STARVED if value == "measured" else None


_POINTS: Mapping[Scaling, tuple[tuple[int, float], ...]] = {
    # 5, 7 and 9 to 11 lie between their neighbours: not measured.
    Scaling.H200: (
        (1, 1.0),
        (2, 1.14),
        (3, 1.54),
        (4, 1.9),
        (6, 2.58),
        (8, 2.75),
        (12, 3.5),
        (16, 3.9),
    ),
    Scaling.CPU_STARVED: (
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
    Scaling.OLLAMA: ((1, 1.0), (4, 1.42)),
    Scaling.FLAT: ((1, 1.0),),
}


def total_speed(streams: int, scaling: Scaling = Scaling.H200) -> float:
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
