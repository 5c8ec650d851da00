"""Write the dashboards, or check that the committed ones are current.

`python -m grafana.build` writes, `python -m grafana.build --check` only looks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grafana.board import Board
from grafana.energy import energy
from grafana.gpu import gpus
from grafana.history import history
from grafana.jobs import jobs
from grafana.models import models
from grafana.node import nodes
from grafana.overview import overview
from grafana.panels import Json
from grafana.routing import routing
from grafana.slo import objectives
from grafana.telemetry import telemetry
from grafana.usage import usage

DIRECTORY = Path(__file__).resolve().parent / "dashboards"
COMMAND = "python -m grafana.build"

BOARDS: Mapping[str, Callable[[], Board]] = {
    "overview.json": overview,
    "node.json": nodes,
    "gpu.json": gpus,
    "models.json": models,
    "routing.json": routing,
    "jobs.json": jobs,
    "slo.json": objectives,
    "energy.json": energy,
    "usage.json": usage,
    "history.json": history,
    "telemetry.json": telemetry,
}


def render(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def write(directory: Path) -> None:
    for name, build in BOARDS.items():
        (directory / name).write_text(render(build().render()), encoding="utf-8")


def stale(directory: Path) -> list[str]:
    """Name what differs from what the code would write, one line for each file."""
    found = {path.name for path in directory.glob("*.json")}
    wrong = [
        f"{directory / name}: not current, run `{COMMAND}`"
        for name, build in BOARDS.items()
        if name not in found
        or (directory / name).read_text(encoding="utf-8") != render(build().render())
    ]
    return wrong + [
        f"{directory / name}: no code writes it, delete it or add it to {__name__}"
        for name in sorted(found - set(BOARDS))
    ]


def main(arguments: Sequence[str] | None = None, directory: Path = DIRECTORY) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if not parser.parse_args(arguments).check:
        write(directory)
        return 0
    wrong = stale(directory)
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
