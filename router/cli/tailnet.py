"""Machines of a tailnet, as `tailscale status --json` and its local API list them."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PATH, _HOST = "/localapi/v0/status", "local-tailscaled.sock"
_SECONDS = 10.0
_MOST_BYTES = 16 * 1024 * 1024
_UNFIT = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class TailnetPeer:
    """A machine; `online`: Tailscale's servers see it, which says nothing of Ollama.

    name: of its DNS name, which is unique in a tailnet and stays, unlike its host name
    """

    name: str
    address: str
    online: bool


def peers(found: Mapping[str, Any], tag: str) -> tuple[TailnetPeer, ...]:
    """Return the machines with a tag, this one among them, by name."""
    listed = [found.get("Self") or {}, *(found.get("Peer") or {}).values()]
    made = [_peer(each) for each in listed if tag in (each.get("Tags") or ())]
    return tuple(sorted((each for each in made if each), key=lambda each: each.name))


def _peer(entry: Mapping[str, Any]) -> TailnetPeer | None:
    """Read one; None for a machine without a name or an IPv4 address."""
    name = _UNFIT.sub("-", str(entry.get("DNSName", "")).split(".")[0].lower())
    addresses = [each for each in entry.get("TailscaleIPs") or () if ":" not in each]
    if not name or not addresses:
        return None
    return TailnetPeer(name, addresses[0], online=bool(entry.get("Online")))


class _LocalApi(http.client.HTTPConnection):
    """Talks over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(_HOST, timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def status(path: Path) -> dict[str, Any]:
    """Ask tailscaled on this machine. Raises OSError, ValueError."""
    api = _LocalApi(path)
    try:
        api.request("GET", _PATH)
        answer = api.getresponse()
        body = answer.read(_MOST_BYTES)
    except http.client.HTTPException as error:
        raise ValueError(f"unexpected answer: {error!r}") from error
    finally:
        api.close()
    if answer.status != http.client.OK:
        raise ValueError(f"status {answer.status}: {body[:200]!r}")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("not a status document")  # noqa: TRY004 - as bad JSON is
    return found
