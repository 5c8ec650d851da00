"""Addresses as people write them, made exact or refused."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from exporters.errors import SettingError

OLLAMA_PORT = 11434

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen; `host` without brackets."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        ip = _ip(self.host)
        return self.host == "localhost" or (ip is not None and ip.is_loopback)


def listen(text: str) -> Listen:
    """Read `host:port` or `[ipv6]:port`."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError as error:
        raise SettingError(f"--listen: {error}, got {text!r}") from error
    if port is None or not parts.hostname or parts.netloc != text or "@" in text:
        raise SettingError(f"--listen: must be host:port, got {text!r}")
    return Listen(parts.hostname, port)


def backend_url(text: str, *, path: bool = False) -> str:
    """Return `scheme://host:port` of a server; raises ValueError that says why.

    path: whether it may have one, which is kept

    Two texts for one address give one result, so that an allow-list holds.
    """
    parts = urlsplit(text)
    _reject_extras(parts, text)
    if not path and parts.path not in {"", "/"}:
        raise ValueError(f"must have no path, query or fragment, got {text!r}")
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host).compressed}]"
    elif not _HOST.fullmatch(host):
        raise ValueError(f"must name a host, got {text!r}")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise ValueError(f"port must be 1 to 65535, got {text!r}")
    return f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"


def _reject_extras(parts: SplitResult, text: str) -> None:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"must be plain ASCII, got {text!r}")
    if parts.scheme not in _PORTS:
        raise ValueError(f"must begin with http:// or https://, got {text!r}")
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials")  # nor repeat them
    if "?" in text or "#" in text:
        raise ValueError(f"must have no path, query or fragment, got {text!r}")
    if not _PATH.fullmatch(parts.path) or ".." in parts.path:
        raise ValueError(f"must have a plain path or none, got {text!r}")


def ollama_url(ollama_host: str) -> str:
    """Read OLLAMA_HOST as Ollama's own client does; empty means its default."""
    scheme, mark, rest = ollama_host.strip().rpartition("://")
    port = _PORTS.get(scheme, OLLAMA_PORT) if mark else OLLAMA_PORT
    netloc = rest.split("/")[0]
    try:
        parts = urlsplit(f"//{netloc}")
        host = parts.hostname or "127.0.0.1"
        port = port if parts.port is None else parts.port
        if (ip := _ip(host)) and ip.is_unspecified:  # what a server binds
            host = "127.0.0.1"  # a client needs an address
        host = f"[{host}]" if ":" in host else host
        return backend_url(f"{scheme or 'http'}://{host}:{port}")
    except ValueError as error:
        raise SettingError(f"OLLAMA_HOST: {error}, got {ollama_host!r}") from error


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
