"""`inferops discover`: adds machines of a tailnet to a router's inventory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from router.cli import tailnet
from router.cli.app import Session, command
from router.cli.client import CliError
from router.cli.outcome import Exit


@click.command()
@click.option("--tag", default="tag:inferops-node", show_default=True)
@click.option(
    "--socket",
    "path",
    default="/var/run/tailscale/tailscaled.sock",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Of tailscaled on this machine.",
)
@click.option(
    "--status",
    "file",
    type=click.File("r"),
    help="Output of `tailscale status --json` instead; - is standard input.",
)
@command
def discover(session: Session, tag: str, path: Path, file: Any) -> None:
    """Add every machine of the tailnet with a tag; run it again now and then.

    It removes nothing: a machine that is silent for a while stays a node.
    """
    found = tailnet.peers(_document(path, file), tag)
    known = {each["name"] for each in session.client.get_list("/admin/nodes")}
    rows = []
    for peer in found:
        state = "known" if peer.name in known else "offline, not added"
        if peer.name not in known and peer.online:
            body = {"name": peer.name, "address": peer.address}
            session.client.post(
                "/admin/nodes", {**body, "labels": {"__scrape": "probe"}}
            )
            state = "added"
        rows.append([peer.name, peer.address, state])
    names = ("name", "address", "state")
    content = [dict(zip(names, row, strict=True)) for row in rows]
    session.console.table(content, ("node", "address", "state"), rows)


def _document(path: Path, file: Any) -> dict[str, Any]:
    try:
        return json.load(file) if file else tailnet.status(path)
    except (OSError, ValueError) as error:
        where = "--status" if file else str(path)
        raise CliError(f"{where}: {error}", Exit.UNREACHABLE) from error


COMMANDS = (discover,)
