"""`inferops serve`, `exporter` and `config`: what runs on this machine.

The command line imports none of the router: each of these is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from router.cli.client import CliError
from router.cli.outcome import Exit
from router.cli.token import own_token, state_folder

_PACKAGE = Path(__file__).resolve().parents[1]
_BOARDS = (
    _PACKAGE / "web" / "boards" / "committed"
)  # of the wheel; a checkout has its own
_SECONDS = 60
_NODES = ("nodes.yml", "prometheus/targets/nodes.yml")


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="router.yml to use.")
@click.option("--bind", default="127.0.0.1:8000", show_default=True, metavar="ADDRESS")
@click.option(
    "--inventory",
    type=click.Path(path_type=Path),
    help="Inventory of nodes; ./nodes.yml where it exists.",
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME=URL",
    help="A node instead of an inventory, such as rig=http://10.0.0.7:11434;"
    " repeatable. Without any: Ollama on this machine.",
)
def serve(
    config: Path | None, bind: str, inventory: Path | None, nodes: tuple[str, ...]
) -> None:
    """Run the router until Ctrl-C."""
    environ = {
        "INFEROPS_CONFIG": str(_PACKAGE / "router.yml"),
        "INFEROPS_SIGNALS__PATH": str(_PACKAGE / "signals.yml"),
        "INFEROPS_STATE__DIRECTORY": str(state_folder(os.environ)),
        **({"INFEROPS_WEB__BOARDS": str(_BOARDS)} if _BOARDS.is_dir() else {}),
        **os.environ,
        "INFEROPS_BIND": bind,
    }
    if config is not None:
        environ["INFEROPS_CONFIG"] = str(config)
    if inventory is not None:
        environ["INFEROPS_INVENTORY__PATH"] = str(inventory)
    elif config is None and "INFEROPS_INVENTORY__PATH" not in environ:
        environ["INFEROPS_INVENTORY__PATH"] = str(
            _inventory(Path(environ["INFEROPS_STATE__DIRECTORY"]), nodes)
        )
    if config is None:
        token = own_token(Path(environ["INFEROPS_STATE__DIRECTORY"]))
        if token is not None:
            environ.setdefault("INFEROPS_ADMIN__TOKEN_FILE", str(token))
    conf = str(_PACKAGE / "gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "-c", conf, "router.wsgi:app"]
    click.echo(f"router on http://{bind}; Ctrl-C stops it", err=True)
    os.execve(sys.executable, command, environ)  # noqa: S606 - becomes the router


def _inventory(state: Path, nodes: tuple[str, ...]) -> Path:
    """Return the inventory to use: one that exists, else one written for `nodes`."""
    if not nodes:
        for name in _NODES:
            if Path(name).is_file():
                return Path(name)
        nodes = ("local=http://127.0.0.1:11434",)
    entries = []
    for each in nodes:
        name, equals, url = each.partition("=")
        host = url.partition("://")[2].partition(":")[0]
        if not (name and equals and host):
            raise CliError(f"--node must be NAME=URL, got {each!r}", Exit.USAGE)
        labels = {"node": name, "__ollama": url, "__scrape": "probe"}
        entries.append({"targets": [host], "labels": labels})
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state / "nodes.yml"
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return path


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def exporter(arguments: tuple[str, ...]) -> None:
    """Run the exporter of a node; --help lists its options."""
    command = [sys.executable, "-m", "exporters", *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - becomes the exporter


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(arguments: tuple[str, ...]) -> None:
    """Say what requests would feel by another policy; --help lists its options."""
    command = [sys.executable, "-m", "simulator.virtual", *arguments]
    os.execv(sys.executable, command)  # noqa: S606 - becomes the simulation


@click.group()
def config() -> None:
    """Check the router's configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
def check(file: Path | None, *, as_json: bool) -> None:
    """Check FILE (router.yml), and the inventory and signals that it names."""
    path = file or Path(os.environ.get("INFEROPS_CONFIG", _PACKAGE / "router.yml"))
    done = subprocess.run(
        [sys.executable, "-m", "router.server.preflight", str(path)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    faults = [] if done.returncode == 0 else done.stderr.splitlines()[1:]
    if as_json:
        click.echo(json.dumps({"file": str(path), "faults": faults}))
    for fault in faults:
        click.echo(fault, err=True)
    if not faults and not as_json:
        click.echo(f"{path}: valid")
    click.get_current_context().exit(Exit.USAGE if faults else Exit.DONE)


COMMANDS = (serve, exporter, simulate, config)
