"""What cards can do: FP16 outside the tensor cores, dense, at boost clock, by name.

Of NVIDIA's data sheets and architecture whitepapers. It is the static score of a node
until speeds are measured on it; a card that is not here gets none.
"""

from __future__ import annotations

import re

# By the driver's name without maker, series and memory.
_TFLOPS = {
    "H200": 133.8,
    "H100": 133.8,  # SXM: "NVIDIA H100 80GB HBM3"
    "H100 PCIe": 102.4,
    "A100-SXM4": 78.0,
    "A100": 78.0,  # PCIe, by its memory's place in the name
    "A100-PCIE": 78.0,
    "A40": 37.4,
    "A10": 31.2,
    "L40S": 91.6,
    "L40": 90.5,
    "L4": 30.3,
    "T4": 16.2,
    "V100-SXM2": 31.4,
    "V100-PCIE": 28.0,
    "RTX 6000 Ada Generation": 91.1,
    "RTX A6000": 38.7,
    "RTX 5090": 104.8,
    "RTX 5080": 56.3,
    "RTX 4090": 82.6,
    "RTX 4080 SUPER": 52.2,
    "RTX 4080": 48.7,
    "RTX 4070 Ti": 40.1,
    "RTX 4070": 29.1,
    "RTX 4060 Ti": 22.1,
    "RTX 4060": 15.1,
    "RTX 3090 Ti": 40.0,
    "RTX 3090": 35.6,
    "RTX 3080": 29.8,
    "RTX 3070": 20.3,
    "RTX 3060": 12.7,
    "RTX 2080 Ti": 26.9,
}
_MAKER = re.compile(r"^(NVIDIA |Tesla |GeForce )+")
_MEMORY = re.compile(r"[ -]\d+ ?GB\b.*$")


def tflops(name: str) -> float | None:
    """Return what a card can do, by the name that its driver gives it."""
    bare = _MAKER.sub("", name.strip())
    return _TFLOPS.get(bare, _TFLOPS.get(_MEMORY.sub("", bare)))
