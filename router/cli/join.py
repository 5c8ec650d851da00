"""`inferops join`: run on a node, adds it to a router's inventory."""

from __future__ import annotations

import time
from typing import Any

import click

from router.cli import cards, machine
from router.cli.app import Session, command
from router.cli.client import Client, CliError
from router.cli.outcome import Exit

_OLLAMA_PORT, _EXPORTER_PORT = 11434, 21434
_WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.5


@click.command()
@click.option("--name", help="What the node is called; default: this machine's name.")
@click.option(
    "--address",
    help="Where the router reaches it; default: the address used to ask it.",
)
@click.option("--port", default=_OLLAMA_PORT, show_default=True, help="Ollama's.")
@click.option("--slots", type=int, help="OLLAMA_NUM_PARALLEL, where it is not found.")
@click.option(
    "--exporter", is_flag=True, help="Install the exporter first (root, or Docker)."
)
@command
def join(
    session: Session,
    name: str | None,
    address: str | None,
    port: int,
    slots: int | None,
    *,
    exporter: bool,
) -> None:
    """Add this machine to the router at --url, and say what was found on it.

    Needs an admin key or the admin token. Running it again changes nothing.
    """
    here = address or _own_address(session.client.url)
    asked = {"name": name or machine.own_name(), "address": here}
    if exporter:
        _install(here, port)
    labels, notes = _found(here, port, slots)
    for note in notes:
        session.console.complain(note)
    made = session.client.post("/admin/nodes", {**asked, "labels": labels})
    state = _state(session.client, asked["name"])
    if session.console.json:
        session.console.data({**made, "state": state, "notes": notes})
        return
    verb = "joined" if made["added"] else "is there already"
    session.console.say(f"{asked['name']} ({here}) {verb}: {state}")
    for label, value in labels.items():
        session.console.say(f"  {label.removeprefix('__')}: {value}")


def _own_address(url: str) -> str:
    try:
        return machine.own_address(url)
    except OSError as error:
        raise CliError(f"{url}: {error.strerror}", Exit.UNREACHABLE) from error


def _install(here: str, port: int) -> None:
    script = machine.installer()
    if not script:
        raise CliError("exporters/install.sh is not here", Exit.INCOMPLETE)
    flags = () if port == _OLLAMA_PORT else ("--ollama-url", f"http://127.0.0.1:{port}")
    if not machine.install_exporter(script, flags):
        raise CliError(f"{script}: the exporter was not installed", Exit.INCOMPLETE)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _answers(_exporter(here), "/metrics") and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _exporter(here: str) -> str:
    return f"http://{_host(here)}:{_EXPORTER_PORT}"


def _host(here: str) -> str:
    return f"[{here}]" if ":" in here else here


def _found(here: str, port: int, slots: int | None) -> tuple[dict[str, str], list[str]]:
    """Return the entry's labels, and what whoever runs this should know."""
    notes = []
    ollama = f"http://{_host(here)}:{port}"
    labels = {} if port == _OLLAMA_PORT else {"__ollama": ollama}
    slots = slots or machine.parallel(machine.run)
    if slots:
        labels["__slots"] = str(slots)
    else:
        notes.append("OLLAMA_NUM_PARALLEL is not known here: the router learns it")
    gpus = machine.gpus(machine.run)
    if gpus:
        labels["__vram_bytes"] = str(sum(each.memory_bytes for each in gpus))
        notes.append("GPU: " + ", ".join(each.name for each in gpus))
        known = [cards.tflops(each.name) for each in gpus]
        if speeds := list(filter(None, known)):
            labels["__tflops"] = str(max(speeds))  # a stream runs on one of them
        if None in known:
            notes.append("TFLOPS of a GPU here are not known: set __tflops, or wait")
    else:
        notes.append("no NVIDIA GPU was found (nvidia-smi)")
    if not _answers(ollama, "/api/version"):
        local = _answers(f"http://127.0.0.1:{port}", "/api/version")
        why = "it listens on 127.0.0.1 only" if local else "nothing answers there"
        notes.append(
            f"Ollama at {ollama}: {why}; set OLLAMA_HOST=0.0.0.0 and restart it"
        )
    exporter = _answers(_exporter(here), "/metrics")
    labels["__scrape"] = "exporter" if exporter else "probe"
    if not exporter:
        script = machine.installer() or "exporters/install.sh"
        notes.append(f"no exporter yet; GPU telemetry comes with: sudo sh {script}")
    return labels, notes


def _answers(url: str, path: str) -> bool:
    with Client(url) as client:
        return client.answers(path)


def _state(client: Client, name: str) -> str:
    """Wait until the router has asked the node for its models."""
    deadline, state = time.monotonic() + _WAIT_SECONDS, "not seen by the router yet"
    while time.monotonic() < deadline:
        try:
            node: dict[str, Any] = client.get(f"/admin/nodes/{name}")
        except CliError:
            node = {}
        if node:
            state = str(node["state"])
            holds = "; ".join(each["reason"] for each in node["holds"])
            state += f" ({holds})" if holds else f", {len(node['models'])} models"
            if node["holds"] or node["models"]:
                break
        time.sleep(_POLL_SECONDS)
    return state


COMMANDS = (join,)
