"""Ask an HTTP address whether it is healthy; as a command, for Compose's healthchecks.

`python -m launcher.health URL` ends with 0 when the answer is 200; given a file in
place of a URL, when the file was touched lately.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

_LATELY_SECONDS = 30
_ERRORS = (OSError, http.client.HTTPException, ValueError)
# Never through a proxy: every address here is on loopback or in the fleet.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(
    url: str, timeout: float = 2, *, login: tuple[str, str] | None = None
) -> bool:
    """Tell whether the address answers 200 within `timeout` seconds."""
    asked = urllib.request.Request(url)  # noqa: S310 - our own addresses
    if login:
        given = base64.b64encode(":".join(login).encode()).decode()
        asked.add_header("Authorization", f"Basic {given}")
    try:
        with _OPENER.open(asked, timeout=timeout) as reply:
            return bool(reply.status == http.client.OK)
    except _ERRORS:
        return False


def read_json(url: str, timeout: float = 2) -> object:
    """Return the address' JSON; None where there is none."""
    try:
        with _OPENER.open(url, timeout=timeout) as reply:
            return json.load(reply)
    except _ERRORS:
        return None


def touched(path: Path, now: Callable[[], float] = time.time) -> bool:
    """Tell whether somebody touched the file within the last half minute."""
    try:
        return now() - path.stat().st_mtime < _LATELY_SECONDS
    except OSError:
        return False


def main(target: str) -> int:
    well = touched(Path(target)) if target.startswith("/") else answers(target)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
