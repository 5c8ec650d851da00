"""Which names a request may call the router by: a guard against DNS rebinding.

A web page's name may be made to lead to this machine, and the page then counts as
the router's own: no `Origin` tells it apart. Only the `Host` does, which is a name
that whoever owns the page can give out. Addresses, names without a dot and names
that no public DNS gives out are let in; others are named by configuration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from router.relay.protocols import dialect_of, error_body
from router.web.inference.request import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HostCheck", "Hosts"]

# The first three are Ollama's. A name in a tailnet leads to a machine of it only.
_PRIVATE = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".ts.net")
_MOST_REMEMBERED = 1024
_MOST_SHOWN = 100


class Hosts:
    """Names that are let in, as `Host` has them; each is looked at once.

    everywhere: whether also clients on other machines must use one of them
    """

    def __init__(self, more: str = "", machine: str = "") -> None:
        named = [each.strip().lower() for each in more.split(",") if each.strip()]
        self.everywhere = bool(named)
        self._any = "*" in named
        self._exact = {each for each in named if not each.startswith("*")}
        self._exact.add((machine or socket.gethostname()).lower())
        ends = tuple(each[1:] for each in named if each.startswith("*."))
        self._ends = (*_PRIVATE, *ends)
        self._known = {""}  # a client without `Host` is no browser

    def __contains__(self, host: str) -> bool:
        if host in self._known:
            return True
        if not self._fits(host):
            return False
        if len(self._known) < _MOST_REMEMBERED:
            self._known.add(host)
        return True

    def _fits(self, host: str) -> bool:
        name = _name(host)
        return (
            self._any
            or "." not in name
            or name in self._exact
            or name.endswith(self._ends)
            or _is_address(name)
        )


def _name(host: str) -> str:
    """Take the port off, the brackets of an address, and the root's dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class HostCheck:
    """In front of everything; costs a request one look into a set.

    refused: told of each request that is sent away
    """

    def __init__(
        self, app: WSGIApplication, hosts: Hosts, refused: Callable[[], None]
    ) -> None:
        self._app = app
        self.hosts = hosts
        self._refused = refused

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "")
        hosts = self.hosts
        if host in hosts or not (hosts.everywhere or _from_this_machine(environ)):
            return self._app(environ, start_response)
        self._refused()
        return _refuse(host, environ, start_response)


def _from_this_machine(environ: WSGIEnvironment) -> bool:
    """Say whether a browser here may have sent it; a Unix socket takes none."""
    peer = environ.get("REMOTE_ADDR", "")
    return _is_address(peer) and _is_loopback(peer)


def _is_loopback(peer: str) -> bool:
    address = ip_address(peer)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _refuse(
    host: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    dialect = dialect_of(environ["PATH_INFO"])
    message = (
        f"this router is not asked by the name {host[:_MOST_SHOWN]!r} in 'Host'; an"
        " operator allows it with the setting web.hosts"
        f" (INFEROPS_WEB__HOSTS={_name(host)[:_MOST_SHOWN]})"
    )
    body = error_body(dialect, 403, message, "forbidden")
    headers = [
        ("Content-Type", dialect.json_type),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id(environ)),
    ]
    start_response("403 Forbidden", headers)
    return [body]
