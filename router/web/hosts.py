"""Which names a request may call the router by: a guard against DNS rebinding.

A web page's name may be made to lead to this machine, and the page then counts as
the router's own: no `Origin` tells it apart. Only the `Host` does, which is a name
that whoever owns the page can give out: the owner of a domain, or a neighbour on the
LAN, who answers for every name without a dot (LLMNR), for `.local` (mDNS) and for
what a home's DNS server calls `.lan`. Addresses, `localhost`, this machine's own name
and a tailnet's names are let in; others are named by configuration.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from router.relay.protocols import dialect_of, error_body
from router.web.caller import from_loopback, name_of
from router.web.inference.request import request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HostCheck", "Hosts"]

# The first is never asked of a server (RFC 6761); a name in a tailnet leads to a
# machine of it only, and its owner cannot lead it elsewhere.
_PRIVATE = (".localhost", ".ts.net")
_OWN = frozenset(
    {"localhost", "host.docker.internal"}
)  # Docker Desktop's, by /etc/hosts
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
        self._exact |= {*_OWN, (machine or socket.gethostname()).lower()}
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
        name = name_of(host)
        return (
            self._any
            or name in self._exact
            or name.endswith(self._ends)
            or _is_address(name)
        )


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
        if host in hosts or not (hosts.everywhere or from_loopback(environ)):
            return self._app(environ, start_response)
        self._refused()
        return _refuse(host, environ, start_response)


def _refuse(
    host: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    dialect = dialect_of(environ["PATH_INFO"])
    message = (
        f"this router is not asked by the name {host[:_MOST_SHOWN]!r} in 'Host'; an"
        " operator allows it with the setting web.hosts"
        f" (INFEROPS_WEB__HOSTS={name_of(host)[:_MOST_SHOWN]})"
    )
    body = error_body(dialect, 403, message, "forbidden")
    headers = [
        ("Content-Type", dialect.json_type),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id(environ)),
    ]
    start_response("403 Forbidden", headers)
    return [body]
