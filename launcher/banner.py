"""What a person reads once everything is ready."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from launcher import health
from launcher.services import Paths, Ports, url

_MODEL_SECONDS = 10
_POLL_SECONDS = 0.2
_GRAFANA = (
    "not installed (its makers have a Debian package; `make up` starts it when"
    " `grafana` is on PATH)"
)


def addresses(ports: Ports, *, grafana: bool) -> str:
    panel = f"{url(ports.grafana)} (user admin)" if grafana else _GRAFANA
    return "\n".join(
        [
            f"  router        {url(ports.router)}",
            f"  boards        {url(ports.router)}/boards",
            f"  Prometheus    {url(ports.prometheus)}",
            f"  Alertmanager  {url(ports.alertmanager)} (API only), user inferops",
            f"  Grafana       {panel}",
        ]
    )


def files(paths: Paths) -> str:
    """Say where logs and secrets are, never the secrets themselves."""
    return "\n".join(
        [
            f"  logs          {_short(paths.logs)}/",
            f"  secrets       {_short(paths.secrets)}/",
        ]
    )


def example(base: str, model: str | None) -> str:
    """Write one curl that works as it is printed."""
    if model is None:
        return f"curl -s {base}/api/tags"
    body = json.dumps({"model": model, "prompt": "Why is the sky blue?"})
    return f"curl -s {base}/api/generate -d {shlex.quote(body)}"


def nodes(paths: Paths, base: str) -> str:
    """Write the command that holds and releases nodes, with its token where it is ours.

    The command finds the token of the usual run directory by itself.
    """
    words = [_short(paths.root / ".venv" / "bin" / "inferops"), "nodes"]
    if base != "http://127.0.0.1:8000":
        words += ["--url", base]
    if paths.run != paths.root / ".run":
        words += ["--token-file", _short(paths.admin_token)]
    return shlex.join(words)


def first_model(
    base: str,
    *,
    read: Callable[[str], object] = health.read_json,
    seconds: float = _MODEL_SECONDS,
) -> str | None:
    """Name a model that the fleet has; the router may still be asking around."""
    deadline = time.monotonic() + seconds
    while True:
        answer = read(f"{base}/api/tags")
        models = answer.get("models") if isinstance(answer, dict) else None
        if models:
            return str(models[0]["name"])
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
