"""The secrets that Alertmanager reads, and the alertmanager.yml made from them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launcher import files
from launcher.errors import LaunchError

_ROOT = Path(__file__).resolve().parents[1]
_RENDER_SECONDS = 30


def receiver_secrets(directory: Path) -> list[Path]:
    """List what a person put there, such as a Slack address."""
    if not directory.is_dir():
        return []
    return sorted(
        each
        for each in directory.iterdir()
        if each.is_file() and not each.name.startswith(".")
    )


def fill(volume: Path, sources: Sequence[Path]) -> None:
    """Copy the secrets; one that was taken away leaves the volume too."""
    volume.mkdir(parents=True, exist_ok=True)
    for old in volume.iterdir():
        old.unlink()
    for source in sources:
        text = source.read_text(encoding="utf-8")
        files.write(volume / source.name, text, mode=0o400)


def render(secrets: Path, *, grafana_url: str | None = None) -> str:
    """Return the text; raises LaunchError with what the renderer says."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "alertmanager.yml"
        argv = [
            *(sys.executable, "-m", "alerting.render"),
            *("--secrets", str(secrets), "--out", str(out)),
            *(("--grafana-url", grafana_url) if grafana_url else ()),
        ]
        try:
            subprocess.run(
                argv,
                cwd=_ROOT,
                capture_output=True,
                text=True,
                timeout=_RENDER_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as failed:
            raise LaunchError(f"alertmanager.yml: {failed.stderr.strip()}") from failed
        return out.read_text(encoding="utf-8")
