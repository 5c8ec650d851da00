"""Tells whether other machines can reach the router; pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

BIND = "127.0.0.1:8000"  # the default

_REFUSAL = """\
{address} is reached by other machines, and there are no API keys. One of these:
  * start it on 127.0.0.1 first and make keys there: inferops keys create NAME
  * set access.keys to 'required' (INFEROPS_ACCESS__KEYS=required), start it, and make
    the first key with the admin token: inferops keys create NAME
  * name a file of keys: access.keys_file (docs/keys.md)
  * in a lab where everybody may do everything: INFEROPS_ACCESS__KEYS=off"""


def exposed(bind: str, published: str | None = None) -> str | None:
    """Return the address that other machines can reach; None where there is none.

    published: where Docker publishes the port; it then counts instead of `bind`
    """
    for each in (published or bind).split(","):
        address = each.strip()
        if address and not _private(address):
            return address
    return None


def reached_by_others(environ: Mapping[str, str], tls_address: str = "") -> str | None:
    """Return the address that other machines can reach, from the environment.

    tls_address: the address for https, which counts also in a container
    """
    bind = environ.get("INFEROPS_BIND", BIND)
    published = environ.get("INFEROPS_PUBLISHED_ADDRESS")
    return exposed(bind, published) or exposed(tls_address)


def _private(address: str) -> bool:
    if address.startswith(("unix:", "fd://")):
        return True
    name = address.removeprefix("[").partition("]")[0]
    if not is_address(name):
        name = address.rpartition(":")[0] or address
    if name == "localhost":
        return True
    return is_address(name) and ip_address(name).is_loopback


def is_address(name: str) -> bool:
    """Whether the name is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def refusal(address: str) -> str:
    """Return the message with which the router refuses to start there."""
    return f"access.keys: {_REFUSAL.format(address=address)}"
