"""`docker compose`, where its engine answers: up until Ctrl-C, then down."""

from __future__ import annotations

import subprocess
from pathlib import Path

from launcher import banner, signals
from launcher.errors import LaunchError
from launcher.services import Ports, url

_ANSWER_SECONDS = 5
_UP_SECONDS = 1800  # the first time it downloads and builds images
_DOWN_SECONDS = 300
_GRAFANA_PASSWORD = "/run/inferops/grafana/grafana-admin-password"  # noqa: S105 - a path


def wanted(engine: str) -> bool:
    """Decide for Docker: when asked for, or when its engine and Compose answer."""
    if engine == "native":
        return False
    answering = _answers("info") and _answers("compose", "version")
    if engine == "docker" and not answering:
        raise LaunchError("no Docker engine with Compose answers: see `docker info`")
    return answering


def up(root: Path) -> int:
    """Start every service, follow until asked to stop, take all down again."""
    with signals.until_stopped():
        try:
            _compose(root, "up", "--detach", "--build", "--wait", seconds=_UP_SECONDS)
            base = url(Ports().router)
            print(
                f"\n{banner.addresses(Ports(), grafana=True)}"
                f"\n  secrets       docker compose exec grafana cat {_GRAFANA_PASSWORD}"
                f"\n\nTry:\n  {banner.example(base, banner.first_model(base))}"
                "\n\nCtrl-C stops everything.\n",
                flush=True,
            )
            _compose(root, "logs", "--follow", "--tail", "0", seconds=None)
        finally:
            down(root)
    return 0


def down(root: Path) -> int:
    """Stop and remove every container, of every profile; volumes stay."""
    _compose(root, "--profile", "*", "down", seconds=_DOWN_SECONDS)
    return 0


def _answers(*arguments: str) -> bool:
    try:
        asked = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _compose(root: Path, *arguments: str, seconds: float | None) -> None:
    command = ["docker", "compose", *arguments]
    try:
        # A session of its own: Ctrl-C is for us alone, we say what ends when.
        subprocess.run(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=True,
            start_new_session=True,
        )
    except subprocess.CalledProcessError as failed:
        raise LaunchError(f"{' '.join(command)}: ended {failed.returncode}") from failed
    except subprocess.TimeoutExpired as late:
        raise LaunchError(f"{' '.join(command)}: no end in {seconds} s") from late
