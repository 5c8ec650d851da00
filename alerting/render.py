"""`python -m alerting.render`: writes alertmanager.yml for what has secrets.

Alertmanager has neither conditions nor variables, and a secret that is missing
fails only at the first notification. So the file names no receiver without one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import yaml

from alerting import alertmanager, receivers
from alerting.errors import RenderError

__all__ = ["main", "render"]

# As docker-compose.yml has it; native mode replaces both.
TEMPLATES = "/etc/inferops/alerting/templates"
ROUTER_URL = "http://router:8000/webhook/alertmanager"
GRAFANA_URL = "http://127.0.0.1:3000"  # as a browser on this machine sees it

_HEAD = "# Rendered by `python -m alerting.render`; edits are lost at the next start.\n"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m alerting.render", description=__doc__)
    top.add_argument("--secrets", type=Path, required=True, metavar="FOLDER")
    top.add_argument("--out", type=Path, required=True, metavar="FILE")
    top.add_argument(
        "--secrets-at",
        metavar="FOLDER",
        help="where Alertmanager finds the secrets; default: where --secrets is",
    )
    top.add_argument("--templates", default=TEMPLATES, metavar="FOLDER")
    top.add_argument("--router-url", default=ROUTER_URL, metavar="URL")
    top.add_argument("--grafana-url", default=GRAFANA_URL, metavar="URL")
    return top


def render(
    secrets: Path,
    *,
    secrets_at: str,
    templates: str,
    router_url: str,
    grafana_url: str = GRAFANA_URL,
) -> str:
    """Give the text of the file; raises RenderError where a setting is wrong."""
    content = alertmanager.config(
        receivers.find(secrets),
        secrets=secrets_at,
        templates=templates,
        router_url=router_url,
        grafana_url=grafana_url,
    )
    return _HEAD + yaml.safe_dump(content, sort_keys=False)


def write(path: Path, text: str) -> None:
    """Put the whole file in place, or none; private, since a URL may be a secret."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def main(argv: list[str] | None = None) -> int:
    given = parser().parse_args(argv)
    try:
        text = render(
            given.secrets,
            secrets_at=given.secrets_at or str(given.secrets.resolve()),
            templates=given.templates,
            router_url=given.router_url,
            grafana_url=given.grafana_url,
        )
        write(given.out, text)
    except RenderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{given.out}: cannot be written: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
