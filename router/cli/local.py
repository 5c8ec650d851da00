"""`inferops serve`, `exporter` and `config`: what runs on this machine.

The command line imports none of the router: each of these is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import yaml

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
    environ = {**_defaults(config), **os.environ, "INFEROPS_BIND": bind}
    if config is not None:
        environ["INFEROPS_CONFIG"] = str(config)
    state = Path(environ.get("INFEROPS_STATE__DIRECTORY", "."))
    if inventory is not None:
        environ["INFEROPS_INVENTORY__PATH"] = str(inventory)
    elif nodes or (config is None and "INFEROPS_INVENTORY__PATH" not in environ):
        environ["INFEROPS_INVENTORY__PATH"] = str(_inventory(state, nodes))
    if config is None:
        token = own_token(state)
        if token is not None:
            environ.setdefault("INFEROPS_ADMIN__TOKEN_FILE", str(token))
    conf = str(_PACKAGE / "gunicorn.conf.py")
    command = [sys.executable, "-m", "gunicorn", "-c", conf, "router.wsgi:app"]
    click.echo(f"router on http://{bind}; Ctrl-C stops it", err=True)
    os.execve(sys.executable, command, environ)  # noqa: S606 - becomes the router


def _defaults(config: Path | None) -> dict[str, str]:
    """Return what a router outside a checkout needs, unless its own file says it."""
    said: object = None
    if config is not None:
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
            said = yaml.safe_load(config.read_text(encoding="utf-8"))
    found = {
        ("signals", "path"): _PACKAGE / "signals.yml",
        ("state", "directory"): state_folder(os.environ),
        **({("web", "boards"): _BOARDS} if _BOARDS.is_dir() else {}),
    }
    environ = {"INFEROPS_CONFIG": str(_PACKAGE / "router.yml")}
    for (section, name), value in found.items():
        fields = said.get(section) if isinstance(said, dict) else None
        if not (isinstance(fields, dict) and fields.get(name)):
            environ[f"INFEROPS_{section}__{name}".upper()] = str(value)
    return environ


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


def _program(name: str, module: str, about: str) -> click.Command:
    """Make a command that becomes a program of its own, with options of its own."""

    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(arguments: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", module, *arguments]
        os.execv(sys.executable, command)  # noqa: S606 - becomes the program

    passed_on = {"ignore_unknown_options": True, "help_option_names": []}
    return click.command(name, help=about, context_settings=passed_on)(run)


exporter = _program(
    "exporter", "exporters", "Run the exporter of a node; --help lists its options."
)
simulate = _program(
    "simulate",
    "simulator.virtual",
    "Say what requests would feel by another policy; --help lists its options.",
)


@click.group()
def config() -> None:
    """Check the router's configuration files."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
def check(file: Path | None, *, as_json: bool) -> None:
    """Check FILE (router.yml), its inventory and signals; else what `serve` uses."""
    path = file or Path(os.environ.get("INFEROPS_CONFIG", _PACKAGE / "router.yml"))
    with tempfile.TemporaryDirectory() as scratch:
        environ = {**_defaults(file), **os.environ}
        # A state of its own: the last good copy of a file would hide its faults.
        environ["INFEROPS_STATE__DIRECTORY"] = scratch
        environ.pop("INFEROPS_BIND", None)
        if file is None and "INFEROPS_INVENTORY__PATH" not in environ:
            environ["INFEROPS_INVENTORY__PATH"] = str(_inventory(Path(scratch), ()))
        done = subprocess.run(
            [sys.executable, "-m", "router.server.preflight", str(path)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=environ,
        )
    lines = done.stderr.splitlines()
    faults = (lines[1:] or lines or ["it failed"]) if done.returncode else []
    if as_json:
        click.echo(json.dumps({"file": str(path), "faults": faults}))
    for fault in faults:
        click.echo(fault, err=True)
    if not faults and not as_json:
        click.echo(f"{path}: valid")
    click.get_current_context().exit(Exit.USAGE if faults else Exit.DONE)


COMMANDS = (serve, exporter, simulate, config)
