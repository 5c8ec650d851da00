"""What a node can say of itself: its cards, and how Ollama was started there."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SECONDS = 10.0
_NUMBER = re.compile(r"OLLAMA_NUM_PARALLEL=\"?([0-9]{1,5})\b")
_MIB = 1024 * 1024

# Runs a program: its output; nothing where there is none, or it fails.
Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card, as its driver names it."""

    name: str
    memory_bytes: int


def run(argv: Sequence[str]) -> str:
    """Run a program for its output."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def gpus(run: Run) -> tuple[Gpu, ...]:
    """List NVIDIA's cards; none where its tool is not there."""
    asked = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    found = []
    for line in run(("nvidia-smi", *asked)).splitlines():
        name, _, memory = line.rpartition(",")
        if name and memory.strip().isdigit():
            found.append(Gpu(name.strip(), int(memory) * _MIB))
    return tuple(found)


def parallel(run: Run) -> int | None:
    """Return OLLAMA_NUM_PARALLEL of Ollama's systemd unit; None where none is told."""
    shown = run(("systemctl", "show", "ollama", "--property=Environment"))
    found = _NUMBER.search(shown)
    return int(found[1]) or None if found else None


def installer() -> Path | None:
    """Find what puts the exporter on this machine; it lies beside the exporter."""
    found = importlib.util.find_spec("exporters")
    folders = found.submodule_search_locations if found else None
    scripts = [Path(each) / "install.sh" for each in folders or ()]
    return next(filter(Path.is_file, scripts), None)


def install_exporter(script: Path, flags: Sequence[str]) -> bool:
    """Run it; what it says goes to standard error. Tell whether it succeeded."""
    argv = ("sh", str(script), *flags)
    return subprocess.run(argv, stdout=sys.stderr, check=False).returncode == 0


def own_address(url: str) -> str:
    """Return the address by which this machine reaches a URL. Raises OSError."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    family, *_, there = socket.getaddrinfo(
        parts.hostname, port, type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(there)  # sends nothing
        return str(probe.getsockname()[0])


def own_name() -> str:
    """Return this machine's name, as a node may be called."""
    return re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower())
