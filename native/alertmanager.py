"""alertmanager.yml, as the alerting package renders it from the secrets there are."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from native.errors import LaunchError

_ROOT = Path(__file__).resolve().parents[1]
_RENDER_SECONDS = 30


def render(secrets: Path) -> str:
    """Return the text; raises LaunchError with what the renderer says."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "alertmanager.yml"
        argv = [
            *(sys.executable, "-m", "alerting.render"),
            *("--secrets", str(secrets), "--out", str(out)),
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
