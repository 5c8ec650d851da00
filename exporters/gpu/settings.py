"""What a person may choose of the GPU exporter."""

from __future__ import annotations

from dataclasses import dataclass

from exporters.gpu.selection import Selection
from exporters.gpu.windows import WINDOW_SECONDS

LEAST_TICK_SECONDS = 0.02
MOST_TICK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class GpuSettings:
    """Flags of the GPU exporter.

    tick_seconds: between two looks at what is momentary
    window_seconds: of the windows that min and max are told of
    by_process: whether each process on a card gets series of its own
    gpus: which of them are read; None for those that this machine's Ollama uses
    """

    tick_seconds: float = 0.1
    window_seconds: float = WINDOW_SECONDS
    by_process: bool = False
    gpus: Selection | None = None
