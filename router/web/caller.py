"""Who sends a request: its address, and whether it can only be from this machine.

A proxy on this machine makes every request come from loopback. Nothing is believed
of what a client says about itself, except where that takes trust away.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

_MOST_FORWARDED = 200

# What proxies add to a request that they pass on.
_FORWARDING = frozenset(
    {
        "HTTP_FORWARDED",
        "HTTP_VIA",
        "HTTP_X_REAL_IP",
        "HTTP_X_CLIENT_IP",
        "HTTP_X_CLUSTER_CLIENT_IP",
        "HTTP_X_ORIGINAL_FORWARDED_FOR",
        "HTTP_TRUE_CLIENT_IP",
        "HTTP_CF_CONNECTING_IP",
        "HTTP_FASTLY_CLIENT_IP",
        "HTTP_TAILSCALE_USER_LOGIN",
    }
)
_FORWARDING_PREFIX = "HTTP_X_FORWARDED"


def address(environ: Mapping[str, Any]) -> str:
    """Return the address of the connection's other end; empty for a Unix socket."""
    peer: str = environ.get("REMOTE_ADDR", "")
    return peer.removeprefix("::ffff:") if "." in peer else peer


def sender(environ: Mapping[str, Any]) -> dict[str, str]:
    """Say for the log where a request comes from.

    client: the connection's other end; forwarded_for: what a proxy says, or whoever
    wants to be taken for one
    """
    found = {"client": address(environ)}
    claimed = environ.get("HTTP_X_FORWARDED_FOR") or environ.get("HTTP_FORWARDED")
    if claimed:
        found["forwarded_for"] = claimed[:_MOST_FORWARDED]
    return found


def from_loopback(environ: Mapping[str, Any]) -> bool:
    """Say whether the connection comes from this machine, by proxy or not."""
    return _is_loopback(address(environ))


def local(environ: Mapping[str, Any]) -> bool:
    """Say whether it was sent here, by no proxy, to an address of this machine alone.

    A proxy that adds no header and sets `Host` itself is told from a person by the
    user that it runs as (`router.web.local_user`), or by HTTP/1.0, which nginx speaks.
    """
    return (
        from_loopback(environ)
        and environ.get("SERVER_PROTOCOL") != "HTTP/1.0"
        and not _forwarded(environ)
        and is_loopback_name(name_of(environ.get("HTTP_HOST", "localhost")))
    )


def name_of(host: str) -> str:
    """Take the port off a `Host`, the brackets of an address, and the root's dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".").lower()


def is_loopback_name(name: str) -> bool:
    """Say whether a name can lead to this machine only, whoever answers for names."""
    return (
        name == "localhost"
        or name.endswith(".localhost")  # RFC 6761: never asked of any server
        or _is_loopback(name)
    )


def _forwarded(environ: Mapping[str, Any]) -> bool:
    return not _FORWARDING.isdisjoint(environ) or any(
        name.startswith(_FORWARDING_PREFIX) for name in environ
    )


@lru_cache(maxsize=256)
def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False
