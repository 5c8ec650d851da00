"""Checks base URLs and host:port pairs by their form; resolves nothing."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_HOST = rf"({_NAME}|\[[0-9A-Fa-f:.]+\])"
_PATH = re.compile(r"[A-Za-z0-9._~/%-]*")
_ADDRESS = re.compile(rf"(?P<host>{_HOST})(:(?P<port>[0-9]{{1,5}}))?")


def split(text: str) -> tuple[str, int | None]:
    """Split `name`, `name:port`, `192.0.2.1:port` or `[::1]:port`.

    Raises ValueError with what it must be.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError("must be a name or address, with or without :port")
    if match["port"] is None:
        return match["host"], None
    port = int(match["port"])
    if not 0 < port < 65536:
        raise ValueError("must have a port from 1 to 65535")
    return match["host"], port


def host_port(text: str) -> str:
    """Return `text`, a `host:port` pair; raises ValueError with what it must be."""
    if split(text)[1] is None:
        raise ValueError("must be host:port")
    return text


def endpoint(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether TLS is spoken, of a URL that `base_url` gave."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if secure else 80), secure


def base_url(
    text: str, schemes: tuple[str, ...] = ("http", "https"), *, path: bool = False
) -> str:
    """Return a base URL without its trailing slash.

    path: whether it may have one, as behind a reverse proxy
    Raises ValueError with what it must be.
    """
    example = " or ".join(f"{scheme}://host:port" for scheme in schemes)
    scheme, _, rest = text.partition("://")
    if scheme not in schemes or not rest:
        raise ValueError(f"must be {example}")
    if "@" in rest:
        raise ValueError("must carry no user or password")
    parts = urlsplit(text)
    if parts.query or parts.fragment:
        raise ValueError(f"must be {example} without a query or fragment")
    if not path and parts.path not in ("", "/"):
        raise ValueError(f"must be {example} without a path")
    if not _PATH.fullmatch(parts.path):
        raise ValueError("must have a path of plain letters, digits and -._~/%")
    split(parts.netloc)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
