"""Prometheus, Alertmanager, node_exporter: found on PATH, else Debian's, unpacked."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import debian
from launcher.errors import LaunchError
from launcher.services import Programs


@dataclass(frozen=True, slots=True)
class Wanted:
    """A program under its upstream and its Debian name, and the oldest that will do."""

    names: tuple[str, ...]
    oldest: tuple[int, int]


# 2.42: alerts with keep_firing_for.
PROMETHEUS = Wanted(("prometheus",), (2, 42))
PROMTOOL = Wanted(("promtool",), (2, 42))
ALERTMANAGER = Wanted(("alertmanager", "prometheus-alertmanager"), (0, 25))
AMTOOL = Wanted(("amtool",), (0, 25))
NODE_EXPORTER = Wanted(("node_exporter", "prometheus-node-exporter"), (1, 0))
RUN = (PROMETHEUS, ALERTMANAGER, NODE_EXPORTER)
CHECK = (PROMTOOL, AMTOOL)


def programs(root: Path, *, grafana: bool = True) -> Programs:
    """Find what the product runs; unpacks Debian's packages where one is missing."""
    found = ensure(root, RUN)
    panel = shutil.which("grafana") if grafana else None
    return Programs(
        prometheus=found[PROMETHEUS],
        alertmanager=found[ALERTMANAGER],
        node_exporter=found[NODE_EXPORTER],
        grafana=Path(panel) if panel else None,
    )


def ensure(root: Path, wanted: tuple[Wanted, ...]) -> Mapping[Wanted, Path]:
    """Find each program; raises LaunchError with what is missing and what to do."""
    found = {each: find(each, root) for each in wanted}
    if None in found.values():
        debian.unpack(root)
        found = {each: find(each, root) for each in wanted}
    missing = [each for each, path in found.items() if path is None]
    if missing:
        raise LaunchError("; ".join(map(_missing, missing)))
    return {each: path for each, path in found.items() if path is not None}


def bin_directory(root: Path) -> Path:
    return root / ".tools" / "usr" / "bin"


def find(wanted: Wanted, root: Path) -> Path | None:
    """Return the first that is new enough, from PATH, then from `.tools/`."""
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{bin_directory(root)}"
    for directory in path.split(os.pathsep):
        for name in wanted.names:
            program = shutil.which(name, path=directory)
            if program and version(Path(program)) >= wanted.oldest:
                return Path(program).resolve()
    return None


def version(program: Path) -> tuple[int, int]:
    """Ask for the version; (0, 0) where there is no answer."""
    answer = debian.run([str(program), "--version"], seconds=20)
    match = re.search(r"version v?(\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _missing(wanted: Wanted) -> str:
    oldest = ".".join(map(str, wanted.oldest))
    return (
        f"no {wanted.names[0]} {oldest} or newer: put one on PATH (this machine's"
        f" packages have an older one, or none)"
    )
