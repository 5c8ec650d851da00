"""`python -m launcher up|down|...`: the product without Docker, or with it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from launcher import docker, rendering, standalone, tools
from launcher.errors import LaunchError
from launcher.fleet import Choice
from launcher.services import Paths, Ports

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("up", "down", "status", "render", "tools")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m launcher", description=__doc__)
    top.add_argument("command", choices=COMMANDS)
    top.add_argument(
        "--with",
        dest="engine",
        choices=("auto", "docker", "native"),
        default="auto",
        help="auto takes Docker where its engine answers",
    )
    top.add_argument("--run-dir", type=Path, default=ROOT / ".run")
    top.add_argument(
        "--inventory",
        type=Path,
        default=ROOT / "prometheus" / "targets" / "nodes.yml",
    )
    top.add_argument("--fleet", type=Choice, choices=list(Choice), default="auto")
    top.add_argument("--no-grafana", action="store_true")
    for port in fields(Ports):
        name = f"--{port.name.replace('_', '-')}-port"
        top.add_argument(name, type=int, default=port.default, metavar="PORT")
    return top


def options(arguments: argparse.Namespace) -> standalone.Options:
    ports = {
        port.name: getattr(arguments, f"{port.name}_port") for port in fields(Ports)
    }
    run, inventory = arguments.run_dir.resolve(), arguments.inventory.resolve()
    return standalone.Options(
        ports=Ports(**ports),
        paths=Paths(root=ROOT, run=run, inventory=inventory),
        fleet=arguments.fleet,
        grafana=not arguments.no_grafana,
    )


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return _command(arguments)
    except (LaunchError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _command(arguments: argparse.Namespace) -> int:
    if arguments.command == "tools":
        tools.ensure(ROOT, (*tools.RUN, *tools.CHECK))
        print(tools.bin_directory(ROOT))
        return 0
    chosen = options(arguments)
    if arguments.command == "render":
        rendering.render(chosen.ports, chosen.paths)
        return 0
    if arguments.command == "status":
        return standalone.status(chosen)
    with_docker = docker.wanted(arguments.engine)
    if arguments.command == "up":
        return docker.up(ROOT) if with_docker else standalone.up(chosen)
    # An engine may have been started since: stop whichever runs.
    stopped = standalone.down(chosen)
    return docker.down(ROOT) if with_docker else stopped


if __name__ == "__main__":
    sys.exit(main())
