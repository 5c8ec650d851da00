"""Which nodes refuse connections from a container, and why that usually is.

`python -m launcher.reachable` says so for the inventory in use.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from launcher import configuration
from router.config.inventory import load_inventory
from router.errors import ConfigError

INVENTORY = Path("/etc/inferops") / configuration.INVENTORY
_SECONDS = 1.5
_MOST = 32  # at once
_HOST = "host.docker.internal"

Refuses = Callable[[str, int], bool]


def refuses(host: str, port: int) -> bool:
    """Tell whether a connection is refused; no answer at all is another matter."""
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def warnings(inventory: Path, refuses: Refuses = refuses) -> list[str]:
    """Say for each node that refuses what to do; nothing of a faulty inventory."""
    try:
        nodes = load_inventory(inventory).nodes
    except ConfigError:
        return []
    with ThreadPoolExecutor(_MOST) as pool:
        found = pool.map(lambda node: _warning(node.name, node.url, refuses), nodes)
        return [each for each in found if each]


def _warning(name: str, url: str, refuses: Refuses) -> str:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    if not refuses(host, port):
        return ""
    if _loopback(host):
        return (
            f"node {name}: {url} is the container itself: an Ollama on this machine is"
            f" http://{_HOST}:{port}"
        )
    own = " on this machine" if host == _HOST else " there"
    return (
        f"node {name}: {url} refuses connections: by default Ollama listens on"
        f" 127.0.0.1 only;{own}: OLLAMA_HOST=0.0.0.0 (with systemd: sudo systemctl edit"
        " ollama), or Ollama in Compose: the profile ollama"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main(say: Callable[[str], object] = print) -> int:
    lines: Iterable[str] = warnings(INVENTORY)
    for line in lines:
        say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
