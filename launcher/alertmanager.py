"""The secrets that Alertmanager reads, and the alertmanager.yml made from them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from alerting import receivers
from alerting import render as renderer
from alerting.errors import RenderError
from launcher import files
from launcher.errors import LaunchError

FILE = "alertmanager.yml"
_ENOUGH = 1 << 20  # bytes; nobody's secret is longer


def receiver_secrets(*folders: Path) -> dict[str, str]:
    """Read what a person put there, such as a Slack address; later folders win."""
    return {
        each.name: _read(each)
        for folder in folders
        if folder.is_dir()
        for each in sorted(folder.iterdir())
        if each.is_file() and not each.name.startswith(".") and each.suffix != ".md"
    }


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _ENOUGH:
            raise LaunchError(f"{path}: too large for a secret")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path}: cannot be read: {error}") from error


def render(
    secrets: Mapping[str, str], *, at: Path, grafana_url: str | None = None
) -> str:
    """Return the text; raises LaunchError with what the renderer says.

    at: the folder where Alertmanager finds the secrets
    """
    with tempfile.TemporaryDirectory() as scratch:
        files.publish(Path(scratch), secrets, mode=0o600)
        try:
            return renderer.render(
                Path(scratch),
                secrets_at=str(at),
                templates=renderer.TEMPLATES,
                router_url=renderer.ROUTER_URL,
                grafana_url=grafana_url or renderer.GRAFANA_URL,
            )
        except RenderError as error:
            text = str(error).replace(f"{scratch}/", "")
            raise LaunchError(f"{FILE}: {text}") from error


def audience(secrets: Mapping[str, str]) -> str:
    """Say in one line who gets notifications, and what to do where nobody does."""
    with tempfile.TemporaryDirectory() as scratch:
        files.publish(Path(scratch), secrets, mode=0o600)
        try:
            found = receivers.find(Path(scratch))
        except RenderError as error:
            raise LaunchError(str(error).replace(f"{scratch}/", "")) from error
    people = receivers.people(found)
    watched = "" if found.watchdog_url else "; no dead man's switch (watchdog-url)"
    if not people:
        return f"NOBODY: put a receiver's secret into site/secrets/{watched}"
    return f"people by {', '.join(people)}{watched}"
