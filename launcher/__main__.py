"""`python -m launcher up|down|...`: the product without Docker, or with it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path

from launcher import configuration, containers, docker, rendering, standalone, tools
from launcher.errors import LaunchError
from launcher.fleet import Choice
from launcher.services import LOOPBACK, Paths, Ports

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
        help="default: site/nodes.yml, else what is shipped",
    )
    top.add_argument("--fleet", type=Choice, choices=list(Choice), default="auto")
    top.add_argument("--no-grafana", action="store_true")
    top.add_argument(
        "--external-host",
        default=os.environ.get("INFEROPS_EXTERNAL_HOST", LOOPBACK),
        metavar="HOST",
        help="the name by which people reach this machine; links begin with it",
    )
    for port in fields(Ports):
        name = f"--{port.name.replace('_', '-')}-port"
        top.add_argument(name, type=int, default=port.default, metavar="PORT")
    return top


def options(arguments: argparse.Namespace) -> standalone.Options:
    ports = {
        port.name: getattr(arguments, f"{port.name}_port") for port in fields(Ports)
    }
    shipped = ROOT / "prometheus" / "targets" / "nodes.yml"
    inventory = arguments.inventory or configuration.inventory(ROOT / "site") or shipped
    run = arguments.run_dir.resolve()
    return standalone.Options(
        ports=Ports(**ports),
        paths=Paths(root=ROOT, run=run, inventory=inventory.resolve()),
        fleet=arguments.fleet,
        grafana=not arguments.no_grafana,
        external_host=arguments.external_host,
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
        rendering.render(chosen.ports, chosen.paths, external_host=chosen.external_host)
        return 0
    if not docker.wanted(arguments.engine):
        command = {"up": standalone.up, "down": standalone.down}
        return command.get(arguments.command, standalone.status)(chosen)
    stack = containers.stack(chosen, arguments.inventory, ROOT / ".run", os.environ)
    if arguments.command == "up":
        return docker.up(stack)
    if arguments.command == "status":
        found = docker.status(stack)
        return standalone.status(chosen) if found is None else found
    # An engine may have been started since: stop whichever runs.
    standalone.down(chosen)
    return docker.down(stack)


if __name__ == "__main__":
    sys.exit(main())
