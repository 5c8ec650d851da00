"""The table of collectors. To add one: a file in collectors/, a line here.

A collector is imported when it is built, so that one that is off costs no memory.
"""

# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporters.collectors import Collector
from exporters.gpu.selection import Selection, of_environment
from exporters.gpu.settings import GpuSettings


class Switch(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where collectors look, and how; URLs are base URLs."""

    ollama_url: str
    node_exporter_url: str
    gpu: GpuSettings = field(default_factory=GpuSettings)


@dataclass(frozen=True, slots=True)
class Entry:
    """A collector by name; `auto` decides where the flag says auto."""

    name: str
    when: str  # what auto means, for --help
    auto: Callable[[], bool]
    build: Callable[[Sources], Collector]


def _ollama(sources: Sources) -> Collector:
    from exporters.collectors.ollama import OllamaCollector

    return OllamaCollector(sources.ollama_url)


def _nvml(sources: Sources) -> Collector:
    from exporters import nvml_library
    from exporters.collectors.nvml import NvmlCollector
    from exporters.gpu.library_file import LibraryFile

    nvml_library.installed()  # loads it, so that its file is known
    return NvmlCollector(
        choice=sources.gpu,
        select=lambda: sources.gpu.gpus or _visible_to_ollama(sources.ollama_url),
        renew=LibraryFile().renew,
    )


def _visible_to_ollama(url: str) -> Selection | None:
    from exporters.ollama.environment import environment

    found = environment(url)
    if found is None:
        return None
    return of_environment(found.values, f"CUDA_VISIBLE_DEVICES of {found.source}")


def _nvml_installed() -> bool:
    from exporters import nvml_library

    return nvml_library.installed()


def _system(sources: Sources) -> Collector:
    from exporters.collectors.system import SystemCollector
    from exporters.node_exporter import NodeExporter

    return SystemCollector(NodeExporter(sources.node_exporter_url))


COLLECTORS = (
    Entry("ollama", "always", lambda: True, _ollama),
    Entry("nvml", "where NVIDIA's library can be loaded", _nvml_installed, _nvml),
    Entry(
        "system",
        "where node_exporter cannot run: not on Linux",
        lambda: sys.platform != "linux",
        _system,
    ),
)


def enabled(switches: Mapping[str, Switch], sources: Sources) -> dict[str, Collector]:
    """Build the collectors that are switched on, in the table's order."""
    return {
        entry.name: entry.build(sources)
        for entry in COLLECTORS
        if switches[entry.name] is Switch.ON
        or (switches[entry.name] is Switch.AUTO and entry.auto())
    }
