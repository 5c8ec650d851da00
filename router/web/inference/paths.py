"""Which route a path is: as Ollama tidies paths, and routes of newer nodes; pure.

A base URL that ends in a slash gives `//api/chat`, which Ollama answers with a
redirect; here it is the same path at once. What climbs (`/x/../api/chat`) is
redirected as there, so that a proxy's rules on paths see where it leads.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.relay.protocols import Route, dialect_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["climbs", "passed_on", "redirect", "tidy"]

_OLLAMA = ("/api/", "/v1/")
_LONGEST_PATH = 256
# Letters that mean nothing else on the way to a node.
_PLAIN = re.compile(r"/(?:api|v1)(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# Of a route that is not known: what would change a node, or use its account.
_CHANGES = re.compile(
    r"""/(?: pull | push | create | copy | cp | delete | rm | remove | rename | tags?
      | import | export | upload s? | download s? | blob s? | quanti[sz]e | convert
      | train(?:ing)? | fine[_-]?tun\w* | config\w* | setting s? | alias(?:es)?
      | me | user s? | account s? | key s? | auth\w* | sign[_-]?(?:in|out|up)
      | log(?:in|out) | token s? | cloud | experimental | admin | shutdown | upgrade
      | update | files? | batch(?:es)? )(?: [/:] | \Z)""",
    re.VERBOSE | re.IGNORECASE,
)


def tidy(path: str) -> str:
    """Return a path of Ollama's without doubled slashes and a last one."""
    if "//" not in path and not path.endswith("/"):
        return path
    tidied = "/" + "/".join(filter(None, path.split("/")))
    return tidied if tidied.startswith(_OLLAMA) else path


def climbs(path: str) -> str | None:
    """Return where a path leads that has `.` or `..` in it, if to one of Ollama's."""
    if "/." not in path or len(path) > _LONGEST_PATH:
        return None
    leads_to = "/" + posixpath.normpath(path).lstrip("/")
    if leads_to == path or not leads_to.startswith(_OLLAMA):
        return None
    return leads_to if _PLAIN.fullmatch(leads_to) else None


def redirect(
    path: str, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Send the client there, with its method and its body."""
    query = environ.get("QUERY_STRING", "")
    location = f"{path}?{query}" if query else path
    headers = [("Location", location), ("Content-Length", "0")]
    start_response("307 Temporary Redirect", headers)
    return []


def passed_on(path: str) -> Route | None:
    """Return a route for a path that only nodes can know; None where it is none.

    A path that may change a node, by its words, is none.
    """
    if len(path) > _LONGEST_PATH or not _PLAIN.fullmatch(path):
        return None
    if _CHANGES.search(path):
        return None
    return Route(path, dialect_of(path), streams=None, unknown=True)
