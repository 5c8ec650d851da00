"""The table of collectors. To add one: a file in collectors/, a line here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporters import nvml_library
from exporters.collectors import Collector
from exporters.collectors.nvml import NvmlCollector
from exporters.collectors.ollama import OllamaCollector
from exporters.collectors.system import SystemCollector


class Switch(StrEnum):
    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Entry:
    """A collector by name; `auto` decides where the flag says auto."""

    name: str
    when: str  # what auto means, for --help
    auto: Callable[[], bool]
    build: Callable[[str], Collector]  # given Ollama's base URL


COLLECTORS = (
    Entry("ollama", "always", lambda: True, OllamaCollector),
    Entry(
        "nvml",
        "where NVIDIA's library can be loaded",
        nvml_library.installed,
        lambda _: NvmlCollector(),
    ),
    Entry(
        "system",
        "where node_exporter cannot run: not on Linux",
        lambda: sys.platform != "linux",
        lambda _: SystemCollector(),
    ),
)


def enabled(switches: Mapping[str, Switch], ollama_url: str) -> dict[str, Collector]:
    """Build the collectors that are switched on, in the table's order."""
    return {
        entry.name: entry.build(ollama_url)
        for entry in COLLECTORS
        if switches[entry.name] is Switch.ON
        or (switches[entry.name] is Switch.AUTO and entry.auto())
    }
