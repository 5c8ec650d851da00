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

from router.access.exposure import is_address
from router.errors import ForbiddenError
from router.web.caller import name_of

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
            or is_address(name)
        )


def foreign_host(host: str) -> ForbiddenError:
    """Return what a client hears that asks by a name that is not let in."""
    return ForbiddenError(
        f"this router is not asked by the name {host[:_MOST_SHOWN]!r} in 'Host'; an"
        " operator allows it with the setting web.hosts"
        f" (INFEROPS_WEB__HOSTS={name_of(host)[:_MOST_SHOWN]})"
    )
