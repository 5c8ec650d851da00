"""Write the dashboards, or check that the committed ones are current.

`python -m grafana.build` writes, `python -m grafana.build --check` only looks.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grafana.batch import jobs
from grafana.fleet import fleet
from grafana.panels import Json

DIRECTORY = Path(__file__).resolve().parent / "dashboards"
COMMAND = "python -m grafana.build"

DASHBOARDS: Mapping[str, Callable[[], Json]] = {
    "fleet.json": fleet,
    "jobs.json": jobs,
}


def render(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def write(directory: Path) -> None:
    for name, build in DASHBOARDS.items():
        (directory / name).write_text(render(build()), encoding="utf-8")


def stale(directory: Path) -> list[str]:
    """Name what differs from what the code would write, one line for each file."""
    found = {path.name for path in directory.glob("*.json")}
    wrong = [
        f"{directory / name}: not current, run `{COMMAND}`"
        for name, build in DASHBOARDS.items()
        if name not in found
        or (directory / name).read_text(encoding="utf-8") != render(build())
    ]
    return wrong + [
        f"{directory / name}: no code writes it, delete it or add it to {__name__}"
        for name in sorted(found - set(DASHBOARDS))
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
